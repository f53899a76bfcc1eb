//! The container's network, and the way into it.

use std::net::SocketAddr;

use slim_sensor::container::spec::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Ground, block};

async fn page(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /etc/passwd HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[test]
fn servers_are_reached_from_inside_their_network() {
    let ground = Ground::new();
    // Two at once, on one port, as a user: low ports are anybody's.
    let mut specs = [ground.spec(&["httpd", "-f", "-p", "80", "-h", "/"]), ground.spec(&["httpd", "-f", "-p", "80", "-h", "/"])];
    specs.iter_mut().for_each(|spec| spec.process.uid = 1000);
    block(async {
        let (first, _first_streams) = ground.runner().start(&specs[0], &[]).await.unwrap();
        let (second, _second_streams) = ground.runner().start(&specs[1], &[]).await.unwrap();
        for running in [&first, &second] {
            let any = SocketAddr::from(([0, 0, 0, 0], 80));
            let any_six = SocketAddr::from(([0; 8], 80));
            while !running.listening().unwrap().iter().any(|address| [any, any_six].contains(address)) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            let mut stream = running.connect_port(80).await.unwrap();
            let answer = page(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("root:x:0:0"), "{answer}");
        }
        let refused = first.connect_port(81).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains("refused"), "{refused}");
        let elsewhere = first.connect("10.1.2.3:80".parse().unwrap()).await.map(drop).unwrap_err().to_string();
        assert!(elsewhere.contains("unreachable"), "{elsewhere}");
        for running in [first, second] {
            running.kill(libc::SIGKILL).await.unwrap();
            assert_eq!(running.wait().await.unwrap(), 137);
            assert!(running.connect_port(80).await.is_err());
        }
    });
    assert_eq!(
        ground
            .says(&ground.shell("ip -o link | cat"))
            .lines()
            .filter(|line| line.contains("state UP") || line.contains("LOOPBACK,UP"))
            .count(),
        1
    );
}

#[test]
fn the_network_of_this_machine_can_be_had() {
    let ground = Ground::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"from this machine\n").unwrap();
    });
    let mut spec = ground.shell(&format!("nc 127.0.0.1 {port} </dev/null"));
    spec.network = Network::Host;
    assert_eq!(ground.says(&spec), "from this machine\n");
    server.join().unwrap();
    // Without it, there is nobody.
    let (code, ..) = block(ground.run(&ground.shell(&format!("nc 127.0.0.1 {port} </dev/null"))));
    assert_eq!(code, 1);
}
