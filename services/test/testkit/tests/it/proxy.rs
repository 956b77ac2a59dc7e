use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bongsu_testkit::{FaultProxy, Passage, Rules, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(150);

/// A server that gives back what it gets.
async fn echo() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut clients = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            clients.spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    (address, tasks)
}

async fn say(stream: &mut TcpStream, word: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(word).await?;
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard).await?;
    Ok(heard)
}

fn rules(passage: Passage) -> Rules {
    Rules {
        passage,
        ..Rules::default()
    }
}

#[tokio::test]
async fn bytes_pass_and_come_back_and_the_end_is_passed_on() {
    let (target, _server) = echo().await;
    let proxy = FaultProxy::start(target).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let long = vec![7; 1_000_000];
    let (mut read, mut write) = stream.split();
    let mut heard = Vec::new();
    let (sent, got) = tokio::join!(
        async {
            write.write_all(&long).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut heard)
    );
    sent.unwrap();
    assert_eq!((got.unwrap(), heard == long), (long.len(), true));
    drop(stream);
    wait_until(SOON, "the connection to end", || async {
        proxy.connections() == 0
    })
    .await;
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_what_is_new() {
    let (target, _server) = echo().await;
    let proxy = FaultProxy::start(target).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream, b"before").await.unwrap();
    proxy.set(rules(Passage::Cut));
    let mut byte = [0];
    let end = timeout(SOON, stream.read(&mut byte)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(timeout(SOON, say(&mut new, b"x")).await.unwrap().is_err());
    proxy.set(Rules::default());
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut again, b"after").await.unwrap(), b"after");
}

#[tokio::test]
async fn silence_holds_bytes_without_a_word_and_gives_them_out_later() {
    let (target, _server) = echo().await;
    let proxy = FaultProxy::start(target).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream, b"before").await.unwrap();
    proxy.set(rules(Passage::Silent));
    stream.write_all(b"held").await.unwrap();
    let mut heard = [0; 4];
    let silent = timeout(SHORT, stream.read_exact(&mut heard)).await;
    assert!(silent.is_err(), "nothing passes and nothing ends");
    proxy.set(Rules::default());
    timeout(SOON, stream.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&heard, b"held");
    assert_eq!(proxy.bytes_to_clients(), 10);
}

#[tokio::test]
async fn a_frozen_connection_stays_silent_while_new_ones_pass() {
    let (target, _server) = echo().await;
    let proxy = FaultProxy::start(target).unwrap();
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut old, b"before").await.unwrap();
    proxy.freeze();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut new, b"new").await.unwrap(), b"new");
    assert!(timeout(SHORT, say(&mut old, b"old")).await.is_err());
}

#[tokio::test]
async fn a_delay_holds_in_both_directions_and_keeps_the_flow() {
    let (target, _server) = echo().await;
    let proxy = FaultProxy::start(target).unwrap();
    proxy.set(Rules {
        delay: Duration::from_millis(50),
        ..Rules::default()
    });
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let begun = Instant::now();
    for i in 0..20 {
        stream.write_all(&[i]).await.unwrap();
    }
    let mut heard = [0; 20];
    stream.read_exact(&mut heard).await.unwrap();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(100), "{took:?}");
    assert!(took < Duration::from_millis(1_000), "{took:?}");
}

#[tokio::test]
async fn a_reset_after_some_bytes_lets_them_through_first() {
    let (target, _server) = echo().await;
    let proxy = FaultProxy::start(target).unwrap();
    proxy.set(Rules {
        reset_after: Some(10),
        ..Rules::default()
    });
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut stream, b"short").await.unwrap(), b"short");
    stream.write_all(b"and longer").await.unwrap();
    let mut rest = Vec::new();
    let end = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_narrow_line_is_slow() {
    let (target, _server) = echo().await;
    let proxy = FaultProxy::start(target).unwrap();
    proxy.set(Rules {
        bytes_per_second: Some(100_000),
        ..Rules::default()
    });
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let begun = Instant::now();
    say(&mut stream, &[1; 20_000]).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(150));
}
