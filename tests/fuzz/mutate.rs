//! Makes inputs from inputs: bytes, lines and words are changed, and values of JSON. The same each time
//! for one seed. Pure.

use serde_json::Value;

/// A source of inputs.
#[derive(Debug)]
pub(crate) struct Mutator {
    state: u64,
    /// Words of the seeds, and some that are odd everywhere.
    words: Vec<Vec<u8>>,
}

const ODD: [&str; 34] = [
    "",
    "0",
    "-1",
    "1",
    "null",
    "true",
    "~",
    "[]",
    "{}",
    "\"\"",
    "''",
    "18446744073709551616",
    "9007199254740993",
    "-0.0",
    "1e999",
    "0x10",
    "..",
    "/",
    "/..",
    "\\u0000",
    "\u{0}",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{feff}",
    "é",
    "<<: *a",
    "&a",
    "!!str",
    "---",
    "...",
    "|",
    ">-",
    "2026-02-31T00:00:00Z",
    "99999999999999999999999999999999",
];

impl Mutator {
    pub(crate) fn new(seed: u64, seeds: &[Vec<u8>]) -> Self {
        let mut words: Vec<Vec<u8>> = ODD.iter().map(|word| word.as_bytes().to_vec()).collect();
        let apart = |byte: &u8| b" \n\t\"',:{}[]=-".contains(byte);
        for word in
            seeds.iter().flat_map(|seed| seed.split(apart)).filter(|word| (1..80).contains(&word.len()))
        {
            if words.len() < 2000 && !words.iter().any(|known| known == word) {
                words.push(word.to_vec());
            }
        }
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, words }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 8
    }

    /// A number below `limit`; 0 where that is 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit.max(1)
    }

    fn word(&mut self) -> Vec<u8> {
        let at = self.below(self.words.len());
        self.words[at].clone()
    }

    /// The next input.
    pub(crate) fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        if self.below(60) == 0 {
            return (0..self.below(3000)).map(|_| self.next().to_le_bytes()[0]).collect();
        }
        let as_json = self.below(2) == 0;
        if as_json && let Ok(mut value) = serde_json::from_slice::<Value>(&input) {
            for _ in 0..=self.below(3) {
                self.json(&mut value);
            }
            return serde_json::to_vec(&value).unwrap();
        }
        for _ in 0..=self.below(4) {
            self.change(&mut input, corpus);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let until = (at + 1 + self.below(64)).min(input.len());
        match self.below(12) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.next().to_le_bytes()[0],
            2 if at < until => drop(input.drain(at..until)),
            3 if at < until => {
                let part = input[at..until].to_vec();
                let to = self.below(input.len());
                drop(input.splice(to..to, part));
            }
            4 => input.truncate(at),
            5 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => self.lines(input),
            7 if at < input.len() => {
                let number = [0_u64, 1, 0x7fff_ffff, u64::MAX, 0x3030_3030_3030_3030][self.below(5)];
                let end = (at + 8).min(input.len());
                input[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
            8 | 9 => {
                let word = self.word();
                drop(input.splice(at..at, word));
            }
            _ => self.replace_word(input),
        }
    }

    fn replace_word(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        let apart = |byte: &u8| b" \n\t\"',:{}[]=".contains(byte);
        let from = input[..at].iter().rposition(apart).map_or(0, |at| at + 1);
        let to = input[at..].iter().position(apart).map_or(input.len(), |end| at + end);
        let word = self.word();
        drop(input.splice(from..to.max(from), word));
    }

    fn lines(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (a, b) = (self.below(lines.len()), self.below(lines.len()));
        match self.below(4) {
            0 => lines.swap(a, b),
            1 => drop(lines.remove(a)),
            2 => lines.insert(b, lines[a].clone()),
            _ => lines[a].splice(0..0, *b"  ").for_each(drop),
        }
        *input = lines.join(&b'\n');
    }

    /// Changes one value somewhere inside.
    fn json(&mut self, value: &mut Value) {
        let deeper = self.below(5) > 0;
        match value {
            Value::Object(map) if deeper && !map.is_empty() => {
                let key = map.keys().nth(self.below(map.len())).unwrap().clone();
                match self.below(12) {
                    0 => drop(map.shift_remove(&key)),
                    1 => {
                        let name = String::from_utf8_lossy(&self.word()).into_owned();
                        let taken = map[&key].clone();
                        drop(map.insert(name, taken));
                    }
                    _ => self.json(&mut map[&key]),
                }
            }
            Value::Array(items) if deeper && !items.is_empty() => {
                let at = self.below(items.len());
                match self.below(10) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    2 => {
                        let last = items.len() - 1;
                        items.swap(at, last);
                    }
                    _ => self.json(&mut items[at]),
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => *value = self.value(),
        }
    }

    fn value(&mut self) -> Value {
        let text = String::from_utf8_lossy(&self.word()).into_owned();
        match self.below(8) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => Value::from(self.next()),
            3 => Value::from(self.below(10)),
            4 => Value::from(vec![text; 2]),
            5 => serde_json::from_str(&text).unwrap_or_default(),
            _ => Value::String(text),
        }
    }
}
