//! The test server's SMTP: a mail is what a request is elsewhere.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::server::{Reply, Server};

/// Talks until the client is gone; replies to every mail alike.
pub(crate) async fn talk(server: Server, stream: TcpStream, reply: Reply) {
    let mut stream = BufReader::new(stream);
    if stream.write_all(b"220 relay\r\n").await.is_err() {
        return;
    }
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if !line.starts_with("DATA") {
            if stream.write_all(b"250 ok\r\n").await.is_err() {
                return;
            }
            continue;
        }
        if stream.write_all(b"354 go on\r\n").await.is_err() {
            return;
        }
        let mut mail = String::new();
        while !mail.ends_with("\r\n.\r\n") {
            match stream.read_line(&mut mail).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        }
        server.read(mail);
        match &reply {
            Reply::Bytes(bytes) => {
                if stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
            Reply::Close => return,
            Reply::Silence => std::future::pending().await,
            Reply::Drip(bytes) => {
                let mut next = bytes.clone();
                while stream.write_all(&next).await.is_ok() {
                    next = vec![b'x'];
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                return;
            }
        }
    }
}
