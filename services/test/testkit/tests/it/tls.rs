use bongsu_simulators::{Kind, Settings, Simulators};
use bongsu_testkit::TlsFront;
use reqwest::{Certificate, Client, StatusCode, Version};

#[tokio::test]
async fn a_simulator_behind_it_is_reached_over_http2_by_those_who_trust_it() {
    let simulators = Simulators::start(Settings::of(&[Kind::Webhook]))
        .await
        .unwrap();
    let front = TlsFront::start(simulators.running()[0].address()).unwrap();
    let url = format!("{}/hook/a", front.url());
    let certificate = Certificate::from_pem(front.certificate().as_bytes()).unwrap();
    let client = Client::builder()
        .tls_certs_merge([certificate])
        .build()
        .unwrap();
    for _ in 0..3 {
        let answer = client.post(&url).body("{}").send().await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
    assert!(Client::new().post(&url).body("{}").send().await.is_err());
    assert_eq!(simulators.running()[0].recorder().counts().accepted, 3);
}
