//! Connects standard input and output with a TCP port in the container's own network namespace.
//!
//! The first byte of the output is [`CONNECTED`], so that the other end knows of a refusal before it sends anything.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

/// Says that the target has accepted.
pub const CONNECTED: u8 = b'+';

/// Connects to the first of `addresses` that accepts, and copies both ways until the target closes its side; the end of
/// `input` is passed on as a half close.
///
/// # Errors
/// The connection's, such as "connection refused".
pub fn run(addresses: &[SocketAddr], input: impl Read + Send + 'static, mut output: impl Write) -> io::Result<()> {
    let mut from_target = TcpStream::connect(addresses)?;
    from_target.set_nodelay(true)?;
    output.write_all(&[CONNECTED])?;
    output.flush()?;
    let to_target = from_target.try_clone()?;
    thread::spawn(move || {
        let _ = copy(input, &to_target);
        let _ = to_target.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 16 << 10];
    loop {
        match from_target.read(&mut buffer)? {
            0 => return Ok(()),
            length => {
                output.write_all(&buffer[..length])?;
                output.flush()?;
            }
        }
    }
}

fn copy(mut input: impl Read, mut output: &TcpStream) -> io::Result<u64> {
    io::copy(&mut input, &mut output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn passes_both_ways_and_the_half_close() {
        let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("address");
        let server = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = server.local_addr().expect("address");
        let echo = thread::spawn(move || {
            let (mut connection, _) = server.accept().expect("accept");
            let mut text = String::new();
            connection.read_to_string(&mut text).expect("read to the half close");
            connection.write_all(text.to_uppercase().as_bytes()).expect("write");
        });
        let mut output = vec![];
        run(&[nobody, address], &b"get /"[..], &mut output).expect("relay");
        assert_eq!(output, b"+GET /");
        echo.join().expect("server");

        let mut output = vec![];
        let refused = run(&[nobody], io::empty(), &mut output).expect_err("nobody listens");
        assert_eq!((refused.kind(), output), (io::ErrorKind::ConnectionRefused, vec![]));
    }
}
