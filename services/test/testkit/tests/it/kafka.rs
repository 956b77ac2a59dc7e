use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bongsu_testkit::{TestKafka, wait_until};

#[tokio::test]
async fn the_shared_broker_answers_as_kafka() {
    let bootstrap = TestKafka::shared().bootstrap();
    wait_until(Duration::from_secs(10), "an ApiVersions answer", || async {
        ask_api_versions(bootstrap).is_ok_and(|correlation| correlation == 7)
    })
    .await;
}

/// Sends `ApiVersions` v0 and reads the correlation id of the answer.
fn ask_api_versions(bootstrap: &str) -> std::io::Result<i32> {
    let first = bootstrap.split(',').next().unwrap_or(bootstrap);
    let mut stream = TcpStream::connect(first)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Length 10; api key 18, version 0, correlation id 7, no client id.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    let [_, _, _, _, correlation @ ..] = head;
    Ok(i32::from_be_bytes(correlation))
}
