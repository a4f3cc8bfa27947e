//! ECDSA keys whose secret number has leading zero bytes: OpenSSH writes such a number shorter, and
//! `ssh-key` 0.6 reads only full length. One P-521 key in four is such a key. This reads the container
//! again, fills the number up and lets `ssh-key` read the rest; anything else gives `None`. Pure.

use ssh_encoding::pem::PemLabel;
use ssh_encoding::{Decode, DecodePem as _, Encode as _, Reader};
use ssh_key::private::KeypairData;
use ssh_key::public::KeyData;
use ssh_key::{EcdsaCurve, PrivateKey};
use zeroize::Zeroizing;

const MAGIC: &[u8; 15] = b"openssh-key-v1\0";

/// An unencrypted container: the bytes of its private section.
struct Container(Zeroizing<Vec<u8>>);

impl PemLabel for Container {
    const PEM_LABEL: &'static str = "OPENSSH PRIVATE KEY";
}

impl Decode for Container {
    type Error = ssh_key::Error;

    fn decode(reader: &mut impl Reader) -> Result<Self, ssh_key::Error> {
        let mut magic = [0; MAGIC.len()];
        reader.read(&mut magic)?;
        let cipher = String::decode(reader)?;
        let (kdf, options) = (String::decode(reader)?, Vec::<u8>::decode(reader)?);
        let (keys, _public) = (u32::decode(reader)?, Vec::<u8>::decode(reader)?);
        let plain = cipher == "none" && kdf == "none" && options.is_empty();
        if magic != *MAGIC || !plain || keys != 1 {
            return Err(ssh_key::Error::FormatEncoding);
        }
        Ok(Self(Zeroizing::new(Vec::decode(reader)?)))
    }
}

/// The key in an unencrypted file.
pub(super) fn of_plain(text: &str) -> Option<PrivateKey> {
    key(&Container::decode_pem(text).ok()?.0).ok()
}

/// The key in an encrypted file. A wrong passphrase gives `None` too.
pub(super) fn of_encrypted(encrypted: &PrivateKey, passphrase: &str) -> Option<PrivateKey> {
    let cipher = encrypted.cipher();
    let (secret, iv) = encrypted.kdf().derive_key_and_iv(cipher, passphrase).ok()?;
    let mut section = Zeroizing::new(encrypted.key_data().encrypted()?.to_vec());
    cipher.decrypt(&secret, &iv, &mut section, None).ok()?;
    let key = key(&section).ok()?;
    (key.public_key().key_data() == encrypted.public_key().key_data()).then_some(key)
}

/// The key of a private section.
fn key(mut section: &[u8]) -> Result<PrivateKey, ssh_key::Error> {
    let reader = &mut section;
    let (check, again) = (u32::decode(reader)?, u32::decode(reader)?);
    let (algorithm, curve) = (String::decode(reader)?, String::decode(reader)?);
    let (point, number) = (Vec::<u8>::decode(reader)?, Zeroizing::new(Vec::<u8>::decode(reader)?));
    let size = match EcdsaCurve::new(&curve)? {
        EcdsaCurve::NistP256 => 32,
        EcdsaCurve::NistP384 => 48,
        EcdsaCurve::NistP521 => 66,
    };
    if check != again || number.is_empty() || number.len() >= size {
        return Err(ssh_key::Error::Crypto);
    }
    let mut full = Zeroizing::new(vec![0; size - number.len()]);
    full.extend_from_slice(&number);
    let mut whole = Zeroizing::new(Vec::new());
    algorithm.encode(&mut *whole)?;
    curve.encode(&mut *whole)?;
    point.encode(&mut *whole)?;
    full.encode(&mut *whole)?;
    let pair = KeypairData::decode(&mut whole.as_slice())?;
    let public = KeyData::try_from(&pair)?;
    let key = PrivateKey::new(pair, "")?;
    if *key.public_key().key_data() == public { Ok(key) } else { Err(ssh_key::Error::PublicKey) }
}
