//! Asks a server over HTTP whether it is well: `GET /health`, then `GET /info`. The only code of this
//! program that speaks to a network, and with nobody but the address that the plan names: no proxy of the
//! environment, no redirect. Changes nothing.

use std::time::Duration;

use serde_json::Value;
use ureq::config::Config;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error};

use crate::ids::ServerUrl;

/// How long one request may take, from the connection to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read: real ones have some 100.
const LIMIT: u64 = 64 << 10;

/// Bytes of a file of certificates.
pub const MAX_CERTIFICATES: u64 = 1 << 20;

/// A server that can be asked.
#[derive(Debug)]
pub struct Asker {
    agent: Agent,
    url: ServerUrl,
    patience: Duration,
}

/// The certificates cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificates that {url} is to be proven by cannot be used: {why}")]
pub struct BadCertificates {
    /// The address.
    pub url: ServerUrl,
    /// What is wrong with them.
    pub why: String,
}

/// Why a server is not well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Nobody listens there (yet).
    #[error("nobody listens there")]
    Refused,
    /// Something else, in words.
    #[error("{0}")]
    Other(String),
}

impl Asker {
    /// Will ask this address. `ca`: certificates in PEM that alone prove a server of `https`; the usual
    /// authorities where none are given.
    ///
    /// # Errors
    /// The certificates are no PEM, or none.
    pub fn new(url: &ServerUrl, ca: Option<&[u8]>) -> Result<Self, BadCertificates> {
        Self::within(url, ca, PATIENCE)
    }

    /// The same, with another limit for each request.
    ///
    /// # Errors
    /// As of [`Self::new`].
    pub fn within(url: &ServerUrl, ca: Option<&[u8]>, patience: Duration) -> Result<Self, BadCertificates> {
        let mut tls = TlsConfig::builder();
        if let Some(pem) = ca {
            let bad = |why: String| BadCertificates { url: url.clone(), why };
            let mut certificates = Vec::new();
            for item in parse_pem(pem) {
                // A key beside them is nothing to prove a server by.
                if let PemItem::Certificate(certificate) = item.map_err(|error| bad(error.to_string()))? {
                    certificates.push(certificate);
                }
            }
            if certificates.is_empty() {
                return Err(bad("the file holds no certificate in PEM".to_owned()));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let config = Config::builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // A connection to a server that is stopped later must not be used for the next one.
            .max_idle_connections(0)
            .timeout_global(Some(patience))
            .user_agent(concat!("abssctl/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        Ok(Self { agent: Agent::new_with_config(config), url: url.clone(), patience })
    }

    /// Whether it says that it is up.
    ///
    /// # Errors
    /// It says nothing, or something else.
    pub fn health(&self) -> Result<(), Silence> {
        let answer = self.get("health")?;
        match answer.get("status").and_then(Value::as_str) {
            Some("UP") => Ok(()),
            Some(other) => Err(Silence::Other(format!("it says that it is {}", other.escape_debug()))),
            None => Err(Silence::Other("it answers otherwise than an Actual server".to_owned())),
        }
    }

    /// The version that it says it has.
    ///
    /// # Errors
    /// It says nothing, or something else.
    pub fn version(&self) -> Result<String, Silence> {
        let answer = self.get("info")?;
        let version = answer.pointer("/build/version").and_then(Value::as_str);
        let none = || Silence::Other("it does not tell its version".to_owned());
        version.map(|version| version.escape_debug().take(100).collect()).ok_or_else(none)
    }

    fn get(&self, page: &str) -> Result<Value, Silence> {
        let mut answer =
            self.agent.get(format!("{}/{page}", self.url)).call().map_err(|error| self.silence(&error))?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(Silence::Other(format!("GET /{page} answers with status {status}")));
        }
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(LIMIT)
            .read_to_vec()
            .map_err(|error| self.silence(&error))?;
        serde_json::from_slice(&bytes)
            .map_err(|_| Silence::Other(format!("GET /{page} answers with something that is no JSON")))
    }

    fn silence(&self, error: &Error) -> Silence {
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        if matches!(error, Error::ConnectionFailed) || matches!(error, Error::Io(error) if refused(error)) {
            Silence::Refused
        } else if matches!(error, Error::Timeout(_)) {
            Silence::Other(format!("no answer within {} seconds", self.patience.as_secs()))
        } else {
            Silence::Other(error.to_string().escape_debug().take(300).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers each request with the next of these, whatever is asked.
    fn answers(answers: &'static [&'static str]) -> Asker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Asker::new(&ServerUrl::local(port), None).unwrap()
    }

    #[test]
    fn a_server_that_is_up_says_so_and_its_version() {
        let asker = answers(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"UP\"}",
            "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"build\":{\"version\":\"25.6.0\"}} ",
        ]);
        asker.health().unwrap();
        assert_eq!(asker.version().unwrap(), "25.6.0");
    }

    #[test]
    fn nobody_listening_is_told_from_the_rest() {
        // A port that no program is given by chance, as one would be that was free a moment ago.
        assert_eq!(Asker::new(&ServerUrl::local(1), None).unwrap().health(), Err(Silence::Refused));
    }

    #[test]
    fn everything_else_is_not_well() {
        let asker = answers(&[
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
            "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"status\":\"DOWN\"}",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            "nonsense",
        ]);
        for expected in [
            "GET /health answers with status 502",
            "GET /health answers with status 302",
            "GET /health answers with something that is no JSON",
            "it says that it is DOWN",
            "it answers otherwise than an Actual server",
        ] {
            assert_eq!(asker.health().unwrap_err().to_string(), expected);
        }
        assert!(matches!(asker.health(), Err(Silence::Other(_))));
    }

    #[test]
    fn certificates_that_are_none_are_refused() {
        let url = ServerUrl::local(1);
        let error = Asker::new(&url, Some(b"nothing")).unwrap_err();
        assert!(error.to_string().contains("holds no certificate"), "{error}");
        assert!(
            Asker::new(&url, Some(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")).is_err()
        );
    }
}
