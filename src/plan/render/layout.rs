//! Lines for a terminal: colour, wrapping, tables, units. Knows nothing of plans; pure.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::visible::visible;

/// Columns that the last column of a table gets at least.
const LAST_COLUMN: usize = 20;

/// How a piece of text stands out. Colour only helps; the words say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Red,
    Yellow,
    Green,
    Dim,
}

/// A piece of text, harmless, with its style.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// From any text: hidden characters become codes.
    pub(super) fn new(style: Style, text: impl AsRef<str>) -> Self {
        Self { text: visible(text.as_ref()), style }
    }

    pub(super) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(Style::Plain, text)
    }
}

/// Lines of at most `width` columns.
#[derive(Debug)]
pub(super) struct Page {
    out: String,
    width: usize,
    color: bool,
}

impl Page {
    pub(super) fn new(width: usize, color: bool) -> Self {
        Self { out: String::new(), width: width.max(40), color }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    fn paint(&mut self, style: Style, text: &str) {
        let code = match style {
            Style::Bold => "1",
            Style::Red => "1;31",
            Style::Yellow => "33",
            Style::Green => "32",
            Style::Dim => "2",
            Style::Plain => "",
        };
        if self.color && !code.is_empty() && !text.is_empty() {
            self.out.extend(["\u{1b}[", code, "m", text, "\u{1b}[0m"]);
        } else {
            self.out.push_str(text);
        }
    }

    fn pad(&mut self, columns: usize) {
        self.out.extend(std::iter::repeat_n(' ', columns));
    }

    fn end_line(&mut self) {
        self.out.truncate(self.out.trim_end_matches(' ').len());
        self.out.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A title above the lines of a section, with an empty line before it.
    pub(super) fn section(&mut self, title: &str) {
        self.blank();
        self.paragraph("", &Cell::new(Style::Bold, title));
    }

    /// A text behind `first`, its further lines as far to the right.
    pub(super) fn paragraph(&mut self, first: &str, cell: &Cell) {
        let indent = first.width();
        for (at, line) in wrap(&cell.text, self.width.saturating_sub(indent)).iter().enumerate() {
            if at == 0 {
                self.out.push_str(first);
            } else {
                self.pad(indent);
            }
            self.paint(cell.style, line);
            self.end_line();
        }
    }

    /// Rows of cells in columns, each two blanks from the next; only the last column wraps. `prefixes`
    /// stand before the rows: for the first line of a row and for its further lines.
    pub(super) fn table(&mut self, rows: &[(String, String, Vec<Cell>)]) {
        let columns = rows.iter().map(|(_, _, cells)| cells.len()).max().unwrap_or(0);
        let widest = |column: usize| {
            let cells = rows.iter().filter_map(|(_, _, cells)| cells.get(column));
            cells.map(|cell| cell.text.width()).max().unwrap_or(0).min(self.width / 2)
        };
        let mut widths: Vec<usize> = (0..columns).map(widest).collect();
        let front = rows.iter().map(|(first, _, _)| first.width()).max().unwrap_or(0);
        widths.pop();
        let room = self.width.saturating_sub(front + 2 * widths.len() + LAST_COLUMN);
        while widths.iter().sum::<usize>() > room {
            let Some(widest) = widths.iter_mut().max().filter(|width| **width > 4) else { break };
            *widest -= 1;
        }
        for (first, further, cells) in rows {
            self.row(first, further, front, &widths, cells);
        }
    }

    fn row(&mut self, first: &str, further: &str, front: usize, widths: &[usize], cells: &[Cell]) {
        let Some((last, fixed)) = cells.split_last() else { return };
        // Columns are aligned behind the widest prefix.
        let before = front + fixed.iter().enumerate().map(|(at, _)| widths[at] + 2).sum::<usize>();
        let room = self.width.saturating_sub(before).max(LAST_COLUMN);
        self.out.push_str(first);
        self.pad(front - first.width());
        for (at, cell) in fixed.iter().enumerate() {
            let text = cut(&cell.text, widths[at]);
            self.paint(cell.style, &text);
            self.pad(widths[at] + 2 - text.width());
        }
        for (at, line) in wrap(&last.text, room).iter().enumerate() {
            if at > 0 {
                self.out.push_str(further);
                self.pad(before.saturating_sub(further.width()));
            }
            self.paint(last.style, line);
            self.end_line();
        }
    }

    /// Rows below a section's title.
    pub(super) fn rows(&mut self, rows: Vec<Vec<Cell>>) {
        let rows: Vec<_> = rows.into_iter().map(|cells| ("  ".to_owned(), "  ".to_owned(), cells)).collect();
        self.table(&rows);
    }
}

/// The beginning of a text, in at most `width` columns.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used < width
    };
    text.chars().take_while(fits).chain("…".chars()).collect()
}

/// Breaks a text at blanks, and a word that is too long anywhere; at least one line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ').width();
        if used > 0 && used + bare > width && bare <= width {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            let columns = c.width().unwrap_or(0);
            if used + columns > width {
                if c == ' ' {
                    continue;
                }
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
            used += columns;
        }
        // Some signs are wider together than one by one.
        used = lines.last().map_or(0, |line| line.width());
    }
    lines
}

/// Bytes in units that people read: `1.4 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A length of time in its two largest units: `1 d 4 h`.
pub(super) fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let largest = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(3);
    let (name, size) = units[largest];
    let mut text = format!("{} {name}", seconds / size);
    if let Some((name, smaller)) = units.get(largest + 1).filter(|(_, smaller)| seconds % size >= *smaller) {
        text.extend([format!(" {} {name}", seconds % size / smaller)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_482_752, "1.4 MiB"), (u64::MAX, "15.9 EiB")]
        {
            assert_eq!(bytes(count), text);
        }
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (3600, "1 h"),
            (20_000, "5 h 33 min"),
            (86_400, "1 d"),
            (90_061, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn wrapping_keeps_every_character_but_blanks() {
        assert_eq!(wrap("aaaa bbbb cccc", 9), ["aaaa bbbb", "cccc"]);
        assert_eq!(wrap("aaaaaaaaaaaaaaaaaaaa", 9), ["aaaaaaaaa", "aaaaaaaaa", "aa"]);
        assert_eq!(wrap("日本語日本語", 8), ["日本語日", "本語"]);
        assert_eq!(wrap("", 9), [""]);
        assert_eq!(wrap("❤️ aaaaaa", 8), ["❤️ ", "aaaaaa"]);
    }

    #[test]
    fn tables_are_aligned_by_columns_not_characters() {
        let mut page = Page::new(40, false);
        page.rows(vec![
            vec![Cell::plain("日本"), Cell::plain("x")],
            vec![Cell::plain("abc"), Cell::plain("a long text that needs a second line here")],
        ]);
        assert_eq!(page.finish(), "  日本  x\n  abc   a long text that needs a second\n        line here\n");
    }

    #[test]
    fn colour_only_where_wanted_and_never_from_the_text() {
        let line = |color| {
            let mut page = Page::new(40, color);
            page.paragraph("", &Cell::new(Style::Red, "a\u{1b}[0mb"));
            page.finish()
        };
        assert_eq!(line(false), "a\\u{1b}[0mb\n");
        assert_eq!(line(true), "\u{1b}[1;31ma\\u{1b}[0mb\u{1b}[0m\n");
    }
}
