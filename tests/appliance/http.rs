//! Just enough of HTTP to ask a server one thing: a connection of its own for each request.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A request to nginx on port 80 of the network that the thread is in.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// Names and values.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn get(path: &'static str) -> Self {
        Self { method: "GET", path, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn post(path: &'static str, kind: &'static str, body: Vec<u8>) -> Self {
        Self { method: "POST", path, headers: vec![("Content-Type", kind.to_owned())], body }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Asks as the device of this address. The server allows each device 500 requests a minute.
    ///
    /// # Errors
    /// No connection, no answer within five seconds, or one that was cut off.
    pub(crate) fn ask(&self, device: &str) -> Result<Answer, Error> {
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect("127.0.0.1:80")?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let mut head = format!(
            "{} {} HTTP/1.0\r\nHost: budget.example\r\nX-Forwarded-For: {device}\r\nContent-Length: {}\r\n",
            self.method,
            self.path,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes)?;
        parse(&bytes).ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "the answer was cut off"))
    }
}

/// `None` for less than a whole answer.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = bytes[end + 4..].to_vec();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (length.is_none_or(|length| length == body.len())).then_some(Answer { status, body })
}
