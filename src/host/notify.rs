//! Tells the service manager that started this process that it is ready: `sd_notify(3)`. Without
//! `$NOTIFY_SOCKET`, which systemd sets for units of `Type=notify`, nothing is told.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says `READY=1`; whoever waits for this unit goes on. `false` where nobody waits.
///
/// # Errors
/// The socket that was named does not take it.
pub fn ready() -> io::Result<bool> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(false);
    };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let _sent = UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(true)
}
