//! A token endpoint: checks the request, and gives unsigned tokens that do not live long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bongsu_runtime::Tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a token lives, in seconds.
pub(super) const LIFE: u64 = 8;

/// Signs that do not stand for themselves in a form.
const CLIENT_ID: &str = "bongsu:1";
const CLIENT_SECRET: &str = "open sesame+";

/// What a request is answered with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Tokens that a broker takes.
    Good,
    /// Tokens that no broker takes.
    Nonsense,
    /// None at the moment.
    Busy,
}

/// How often something was answered.
#[derive(Clone, Copy, Default)]
pub(super) struct Answered {
    pub(super) tokens: usize,
    pub(super) refusals: usize,
}

pub(super) struct Endpoint {
    url: String,
    mood: Arc<Mutex<Mood>>,
    answered: watch::Receiver<Answered>,
    _serving: Tasks,
}

impl Endpoint {
    pub(super) async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let mood = Arc::new(Mutex::new(mood));
        let (answers, answered) = watch::channel(Answered::default());
        let mut serving = Tasks::new();
        let moods = Arc::clone(&mood);
        serving.spawn("token-endpoint", async move {
            loop {
                let (stream, _) = listener.accept().await?;
                let mood = *moods.lock().unwrap();
                let given = serve(stream, mood).await?;
                answers.send_modify(|a| match given {
                    true => a.tokens += 1,
                    false => a.refusals += 1,
                });
            }
            #[expect(unreachable_code, reason = "names the error")]
            Ok::<(), std::io::Error>(())
        });
        Self {
            url,
            mood,
            answered,
            _serving: serving,
        }
    }

    pub(super) fn become_of(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// `kafka.sasl`, as a user would write it.
    pub(super) fn sasl(&self) -> Value {
        json!({"mechanism": "OAUTHBEARER", "oauth": {
            "token_url": self.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "scope": "kafka all",
        }})
    }

    pub(super) fn answered(&self) -> Answered {
        *self.answered.borrow()
    }

    pub(super) async fn until(&self, holds: impl Fn(Answered) -> bool) {
        let mut answered = self.answered.clone();
        answered.wait_for(|now| holds(*now)).await.unwrap();
    }
}

/// Answers one request; true when it was given a token.
async fn serve(stream: TcpStream, mood: Mood) -> std::io::Result<bool> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: BTreeMap<String, &str> = lines
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let mut form = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut form).await?;
    assert_eq!(lines[0], "POST /token HTTP/1.1");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    let (status, answer) = answer(headers["authorization"], &form, mood);
    let body = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await?;
    Ok(status.starts_with("200"))
}

fn answer(authorization: &str, form: &[u8], mood: Mood) -> (&'static str, Value) {
    if mood == Mood::Busy {
        return ("503 Service Unavailable", json!({}));
    }
    let client = STANDARD.encode("bongsu%3A1:open+sesame%2B");
    if authorization != format!("Basic {client}") {
        return ("401 Unauthorized", json!({"error": "invalid_client"}));
    }
    if form != b"grant_type=client_credentials&scope=kafka+all" {
        return ("400 Bad Request", json!({"error": "invalid_request"}));
    }
    let token = match mood {
        Mood::Nonsense => "open.sesame".to_owned(),
        Mood::Good | Mood::Busy => unsigned(),
    };
    let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": LIFE});
    ("200 OK", answer)
}

/// A token without a signature (RFC 7519, 6).
fn unsigned() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({"sub": "bongsu", "iat": now.as_secs(), "exp": now.as_secs() + LIFE});
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.", encode(json!({"alg": "none"})), encode(claims))
}
