//! Names of detached signatures: `<plan file>.<principal>.sig` beside the plan, so that approvals given
//! in two branches merge without a conflict. Pure.
//!
//! In the name a principal has letters, digits, `@`, `.`, `_`, `+` and `-`; any other byte is `%` and two
//! hexadecimal digits, so that the name leads back to exactly one principal and never out of the directory.

/// The longest principal in bytes, as the plan format has it.
pub const MAX_PRINCIPAL: usize = 200;

const PLAIN: &str = "@._+-";
const END: &str = ".sig";

/// The longest name of a file in bytes, on all file systems of Linux.
const MAX_NAME: usize = 255;
/// Room for the temporary name under which a file is written first.
const TEMPORARY: usize = 30;

/// How many bytes the name of the file with a principal's signature has too many.
pub fn excess(plan: &str, principal: &str) -> usize {
    (file_name(plan, principal).len() + TEMPORARY).saturating_sub(MAX_NAME)
}

/// The name of the file with a principal's signature of a plan.
pub fn file_name(plan: &str, principal: &str) -> String {
    let mut name = format!("{plan}.");
    for byte in principal.bytes() {
        if byte.is_ascii_alphanumeric() || PLAIN.as_bytes().contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name + END
}

/// Whose signature of this plan a file holds, by its name; `None` where it is no such file.
pub fn principal_of(plan: &str, name: &str) -> Option<String> {
    let text = name.strip_prefix(plan)?.strip_prefix('.')?.strip_suffix(END)?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    let principal = String::from_utf8(bytes).ok().filter(|principal| !principal.is_empty())?;
    // One name a principal: `%61nna` is not another file of anna's.
    (file_name(plan, &principal) == name).then_some(principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_principal_and_stays_in_its_directory() {
        assert_eq!(file_name("plan.yaml", "anna@example.org"), "plan.yaml.anna@example.org.sig");
        for principal in ["anna", "a b", "../../etc/passwd", "é", "%41", ".", "a.sig", "A+b_c-d"] {
            let name = file_name("p", principal);
            assert!(!name.contains('/'), "{name}");
            assert_eq!(principal_of("p", &name).as_deref(), Some(principal));
        }
        for name in
            ["p", "p.sig", "p..sig", "q.anna.sig", "p.%61nna.sig", "p.%4.sig", "p.%ff.sig", "p.a b.sig"]
        {
            assert_eq!(principal_of("p", name), None, "{name}");
        }
    }
}
