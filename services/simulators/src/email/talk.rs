//! One conversation: strict where a relay is.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;

use super::bounce::{Bounce, Made};
use super::plan::{Offer, Plan, Step, Then};
use super::{Email, Taken};
use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::Server;

/// Bytes of a command's line. [R: RFC 5321, 4.5.3.1.4, with room for parameters]
const LINE: u64 = 2_048;
/// Bytes of a mail when the plan names no size.
const MOST: u64 = 64 * 1024 * 1024;
/// Bytes of a line of a mail, its end included. [R: RFC 5321, 4.5.3.1.6]
const MAIL_LINE: usize = 1_000;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A conversation that begins in the clear.
pub(super) async fn clear(
    server: Arc<Server>,
    twin: Arc<Email>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let mut talk = Talk::new(
        Arc::clone(&server),
        Arc::clone(&twin),
        Box::new(stream),
        false,
    );
    match talk.run(true).await {
        Ok(Flow::Secure) => {}
        Ok(Flow::On | Flow::End) => return,
        Err(error) => {
            tracing::trace!(%error, %peer, "conversation ended");
            return;
        }
    }
    // What was said in the clear is forgotten. [R: RFC 3207, 4.2]
    let stream = talk.io.into_inner();
    match server.tls().accept(stream).await {
        Ok(stream) => converse(Talk::new(server, twin, Box::new(stream), true), false, peer).await,
        Err(error) => tracing::debug!(%error, %peer, "TLS handshake"),
    }
}

/// A conversation in TLS from its first byte on.
pub(super) async fn secured(
    server: Arc<Server>,
    twin: Arc<Email>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    match server.tls().accept(stream).await {
        Ok(stream) => converse(Talk::new(server, twin, Box::new(stream), true), true, peer).await,
        Err(error) => tracing::debug!(%error, %peer, "TLS handshake"),
    }
}

async fn converse(mut talk: Talk, greets: bool, peer: SocketAddr) {
    if let Err(error) = talk.run(greets).await {
        tracing::trace!(%error, %peer, "conversation ended");
    }
}

#[derive(Debug, Clone, Default)]
struct Envelope {
    from: String,
    from_parameters: String,
    to: Option<(String, String)>,
}

/// What follows a command.
enum Flow {
    On,
    Secure,
    End,
}

struct Talk {
    server: Arc<Server>,
    twin: Arc<Email>,
    io: BufReader<Box<dyn Stream>>,
    tls: bool,
    user: Option<String>,
    greeted: bool,
    mail: Option<Envelope>,
    mails: u64,
}

impl Talk {
    fn new(server: Arc<Server>, twin: Arc<Email>, io: Box<dyn Stream>, tls: bool) -> Self {
        Self {
            server,
            twin,
            io: BufReader::new(io),
            tls,
            user: None,
            greeted: false,
            mail: None,
            mails: 0,
        }
    }

    /// Until STARTTLS or the end. After STARTTLS a server does not greet again.
    async fn run(&mut self, greets: bool) -> std::io::Result<Flow> {
        if greets {
            if let Some(flow) = self.scripted(Step::Connect, "").await? {
                return Ok(match flow {
                    Flow::On | Flow::End => Flow::End,
                    Flow::Secure => Flow::Secure,
                });
            }
            self.say("220 relay.example ESMTP twin").await?;
        }
        loop {
            let Some(line) = self.line().await? else {
                return Ok(Flow::End);
            };
            match self.command(line.trim_end()).await? {
                Flow::On => {}
                ended @ (Flow::Secure | Flow::End) => return Ok(ended),
            }
        }
    }

    async fn command(&mut self, line: &str) -> std::io::Result<Flow> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if !rest.is_empty() => {
                self.greeted = true;
                self.mail = None;
                self.offer().await?;
            }
            "EHLO" => self.say("501 5.5.4 a name is missing").await?,
            "STARTTLS" if self.twin.plan().has(Offer::Starttls) && !self.tls => {
                let plan = self.twin.plan();
                let injected = plan.injected.replace('\n', "\r\n");
                self.write(&format!("220 2.0.0 go ahead\r\n{injected}"))
                    .await?;
                return Ok(Flow::Secure);
            }
            "AUTH" => return self.login(rest).await,
            "MAIL" => return self.from(rest).await,
            "RCPT" => return self.to(rest).await,
            "DATA" => return self.data().await,
            "RSET" => {
                self.mail = None;
                self.say("250 2.0.0 forgotten").await?;
            }
            "NOOP" => self.say("250 2.0.0 still here").await?,
            "QUIT" => {
                self.say("221 2.0.0 bye").await?;
                return Ok(Flow::End);
            }
            _ => self.say("502 5.5.1 unknown command").await?,
        }
        Ok(Flow::On)
    }

    async fn offer(&mut self) -> std::io::Result<()> {
        let plan = self.twin.plan();
        let mut lines = vec!["relay.example greets you".to_owned(), "8BITMIME".to_owned()];
        lines.push("ENHANCEDSTATUSCODES".to_owned());
        if plan.has(Offer::Starttls) && !self.tls {
            lines.push("STARTTLS".to_owned());
        }
        // Never in the clear: a password would be read.
        if plan.login.is_some() && self.tls {
            lines.push("AUTH PLAIN LOGIN".to_owned());
        }
        if plan.has(Offer::Dsn) {
            lines.push("DSN".to_owned());
        }
        if plan.has(Offer::Smtputf8) {
            lines.push("SMTPUTF8".to_owned());
        }
        if plan.size > 0 {
            lines.push(format!("SIZE {}", plan.size));
        }
        let last = lines.len() - 1;
        let text: String = lines
            .iter()
            .enumerate()
            .map(|(i, line)| format!("250{}{line}\r\n", if i == last { ' ' } else { '-' }))
            .collect();
        self.write(&text).await
    }

    async fn login(&mut self, rest: &str) -> std::io::Result<Flow> {
        if let Some(flow) = self.scripted(Step::Login, "").await? {
            return Ok(flow);
        }
        let plan = self.twin.plan();
        let Some(login) = plan.login.as_ref().filter(|_| self.tls) else {
            self.say("503 5.5.1 AUTH is not offered").await?;
            return Ok(Flow::On);
        };
        let (mechanism, first) = rest.split_once(' ').unwrap_or((rest, ""));
        let shown = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let answer = self.answer_to(first, "").await?;
                let mut parts = answer.split('\0').skip(1);
                let user = parts.next().unwrap_or_default().to_owned();
                (user, parts.next().unwrap_or_default().to_owned())
            }
            "LOGIN" => {
                let user = self.answer_to(first, "VXNlcm5hbWU6").await?;
                (user, self.answer_to("", "UGFzc3dvcmQ6").await?)
            }
            _ => {
                self.say("504 5.5.4 unknown mechanism").await?;
                return Ok(Flow::On);
            }
        };
        if shown == (login.user.clone(), login.password.clone()) {
            self.user = Some(shown.0);
            self.say("235 2.7.0 welcome").await?;
        } else {
            self.say("535 5.7.8 user or password is wrong").await?;
        }
        Ok(Flow::On)
    }

    /// What a client answers to a challenge, when it did not do so already.
    async fn answer_to(&mut self, given: &str, challenge: &str) -> std::io::Result<String> {
        let answer = if given.is_empty() {
            self.say(&format!("334 {challenge}")).await?;
            self.line().await?.unwrap_or_default()
        } else {
            given.to_owned()
        };
        let bytes = STANDARD.decode(answer.trim()).unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn from(&mut self, rest: &str) -> std::io::Result<Flow> {
        if let Some(flow) = self.scripted(Step::Mail, "").await? {
            return Ok(flow);
        }
        let plan = self.twin.plan();
        let refusal = if !self.greeted || self.mail.is_some() {
            Some("503 5.5.1 not now")
        } else if plan.requires_tls && !self.tls {
            Some("530 5.7.0 STARTTLS first")
        } else if plan.login.is_some() && self.user.is_none() {
            Some("530 5.7.0 AUTH first")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.say(refusal).await?;
            return Ok(Flow::On);
        }
        let Some((from, parameters)) = path(rest, "FROM:") else {
            self.say("501 5.1.7 no address").await?;
            return Ok(Flow::On);
        };
        if plan.mails_per_connection > 0 && self.mails >= plan.mails_per_connection {
            self.say("421 4.7.0 too many mails on this connection")
                .await?;
            return Ok(Flow::End);
        }
        let size = parameters.split(' ').find_map(|p| p.strip_prefix("SIZE="));
        let size: u64 = size.and_then(|size| size.parse().ok()).unwrap_or(0);
        if plan.size > 0 && size > plan.size {
            self.say("552 5.3.4 too large").await?;
            return Ok(Flow::On);
        }
        let known = |parameter: &str| {
            let keyword = parameter.split('=').next().unwrap_or_default();
            match keyword {
                "" | "SIZE" | "BODY" => true,
                "SMTPUTF8" => plan.has(Offer::Smtputf8),
                "RET" | "ENVID" => plan.has(Offer::Dsn),
                _ => false,
            }
        };
        if !parameters.split(' ').all(known) {
            self.say("555 5.5.4 unknown parameter").await?;
            return Ok(Flow::On);
        }
        self.mail = Some(Envelope {
            from,
            from_parameters: parameters,
            to: None,
        });
        self.say("250 2.1.0 sender ok").await?;
        Ok(Flow::On)
    }

    async fn to(&mut self, rest: &str) -> std::io::Result<Flow> {
        let Some((to, parameters)) = path(rest, "TO:") else {
            self.say("501 5.1.3 no address").await?;
            return Ok(Flow::On);
        };
        if let Some(flow) = self.scripted(Step::Rcpt, &to).await? {
            return Ok(flow);
        }
        let plan = self.twin.plan();
        let Some(mail) = self.mail.as_mut() else {
            self.say("503 5.5.1 MAIL first").await?;
            return Ok(Flow::On);
        };
        let utf8 = mail.from_parameters.split(' ').any(|p| p == "SMTPUTF8");
        if !to.is_ascii() && !utf8 {
            self.say("553 5.6.7 SMTPUTF8 is missing").await?;
            return Ok(Flow::On);
        }
        if plan.greylist && self.twin.is_new(&to) {
            self.say("451 4.7.1 greylisted, come again").await?;
            return Ok(Flow::On);
        }
        mail.to = Some((to, parameters));
        self.say("250 2.1.5 recipient ok").await?;
        Ok(Flow::On)
    }

    async fn data(&mut self) -> std::io::Result<Flow> {
        let to = self.mail.as_ref().and_then(|mail| mail.to.clone());
        let Some((to, to_parameters)) = to else {
            self.say("503 5.5.1 RCPT first").await?;
            return Ok(Flow::On);
        };
        if let Some(flow) = self.scripted(Step::Data, &to).await? {
            return Ok(flow);
        }
        self.say("354 go on").await?;
        let Some(data) = self.content().await? else {
            return Ok(Flow::End);
        };
        let envelope = self.mail.take().unwrap_or_default();
        self.mails += 1;
        let mut taken = Taken {
            from: envelope.from,
            from_parameters: envelope.from_parameters,
            to,
            to_parameters,
            tls: self.tls,
            user: self.user.clone().unwrap_or_default(),
            data: String::from_utf8_lossy(&data).into_owned(),
            answer: String::new(),
        };
        self.settle(&mut taken, fault_of(&data)).await
    }

    /// Records a mail, decides about it and answers.
    async fn settle(
        &mut self,
        taken: &mut Taken,
        fault: Option<&'static str>,
    ) -> std::io::Result<Flow> {
        let plan = self.twin.plan();
        let faults = self.server.faults();
        let (ticket, decision) = {
            let head = unfolded(&taken.data);
            let arrived = arrived(taken, &head);
            let (ticket, line) = self.server.record(&arrived);
            let decision = faults.decide(ticket.n, arrived.path, arrived.attempt);
            if let Some(line) = line {
                self.server.log(line).await;
            }
            (ticket, decision)
        };
        if !decision.delay.is_zero() {
            tokio::time::sleep(decision.delay).await;
        }
        let script = plan.at(Step::Dot, &taken.to).cloned();
        let act = self.server.limited(&faults, decision, ticket.read_us);
        let (reply, then) = match (act, fault, &script) {
            (Act::Hang, ..) => (String::new(), Then::Hang),
            (Act::Reset | Act::Fail(504), ..) => (String::new(), Then::Cut),
            (Act::Throttle(_), ..) => ("451 4.7.1 not now".to_owned(), Then::Reply),
            (Act::Fail(_), ..) => ("451 4.3.0 trouble here".to_owned(), Then::Reply),
            (Act::Answer, Some(fault), _) => (fault.to_owned(), Then::Reply),
            (Act::Answer, None, Some(script)) => (script.reply.clone(), script.then),
            (Act::Answer, None, None) => (format!("250 2.0.0 queued as {}", ticket.n), Then::Reply),
        };
        let status = reply.get(..3).and_then(|code| code.parse().ok());
        if let Some(status) = status {
            self.server.recorder().answered(ticket, status);
        }
        let lost = decision.lost && act == Act::Answer;
        if !lost {
            taken.answer.clone_from(&reply);
        }
        self.twin.keep(taken.clone());
        if let Some(said) = plan.bounce_of(&taken.to)
            && status.is_some_and(|status| status < 300)
        {
            self.bounce(&plan, taken, said);
        }
        if lost {
            return Ok(Flow::End);
        }
        self.perform(&reply, then).await
    }

    fn bounce(&self, plan: &Plan, taken: &Taken, said: &str) {
        let made = Made {
            to: &taken.from,
            from_parameters: &taken.from_parameters,
            to_parameters: &taken.to_parameters,
            recipient: &taken.to,
            said,
            data: &taken.data,
        };
        if plan.bounce_url.is_empty() {
            return;
        }
        if let Some(mail) = made.mail() {
            self.twin.bounce(Bounce {
                url: plan.bounce_url.clone(),
                secret: plan.bounce_secret.clone(),
                mail,
            });
        }
    }

    /// What the plan says of a step, done; `None` when it says nothing.
    async fn scripted(&mut self, step: Step, to: &str) -> std::io::Result<Option<Flow>> {
        let plan = self.twin.plan();
        let Some(script) = plan.at(step, to) else {
            return Ok(None);
        };
        self.perform(&script.reply, script.then).await.map(Some)
    }

    async fn perform(&mut self, reply: &str, then: Then) -> std::io::Result<Flow> {
        match then {
            Then::Reply => self.say(reply).await.map(|()| Flow::On),
            Then::Close => self.say(reply).await.map(|()| Flow::End),
            Then::Cut => Ok(Flow::End),
            Then::Hang => std::future::pending().await,
        }
    }

    /// A line; `None` at the end of the connection.
    async fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = Vec::new();
        let n = (&mut self.io)
            .take(LINE)
            .read_until(b'\n', &mut line)
            .await?;
        if n == 0 || !line.ends_with(b"\r\n") {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// A mail's headers and body, its doubled dots taken back; `None` when it broke off.
    async fn content(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let most = match self.twin.plan().size {
            0 => MOST,
            size => size,
        };
        let mut data = Vec::new();
        loop {
            let mut line = Vec::new();
            let n = (&mut self.io)
                .take(most)
                .read_until(b'\n', &mut line)
                .await?;
            if n == 0 || data.len() as u64 > most {
                return Ok(None);
            }
            if line == b".\r\n" {
                return Ok(Some(data));
            }
            data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    async fn say(&mut self, line: &str) -> std::io::Result<()> {
        self.write(&format!("{line}\r\n")).await
    }

    async fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.io.get_mut().write_all(text.as_bytes()).await?;
        self.io.get_mut().flush().await
    }
}

/// The address in `FROM:<…>` and what follows it.
fn path(rest: &str, keyword: &str) -> Option<(String, String)> {
    let (head, rest) = rest.split_at_checked(keyword.len())?;
    let rest = rest
        .strip_prefix('<')
        .filter(|_| head.eq_ignore_ascii_case(keyword))?;
    let (address, parameters) = rest.split_once('>')?;
    let fine = !address.contains(['<', ' ', '\r', '\n']);
    fine.then(|| (address.to_owned(), parameters.trim().to_owned()))
}

/// What a strict relay finds wrong with a mail.
fn fault_of(data: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(data);
    if text
        .split("\r\n")
        .any(|line| line.contains(['\r', '\n', '\0']))
    {
        return Some("554 5.6.0 a bare CR, LF or NUL");
    }
    if data
        .split(|byte| *byte == b'\n')
        .any(|line| line.len() >= MAIL_LINE)
    {
        return Some("554 5.6.0 a line is too long");
    }
    let head = unfolded(&text);
    for name in ["from", "date", "message-id"] {
        if headers(&head)
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .count()
            != 1
        {
            return Some("554 5.6.0 From, Date and Message-ID must be there once each");
        }
    }
    None
}

/// The headers, each on one line.
fn unfolded(data: &str) -> String {
    let head = data.split_once("\r\n\r\n").map_or(data, |(head, _)| head);
    head.replace("\r\n ", " ").replace("\r\n\t", " ")
}

fn headers(head: &str) -> impl Iterator<Item = (&str, &str)> {
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
}

/// What is recorded of a mail.
fn arrived<'a>(taken: &'a Taken, head: &'a str) -> Arrived<'a> {
    let header = |name: &str| {
        headers(head)
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    };
    let id = header("Message-ID");
    let id = id
        .trim_start_matches('<')
        .split('@')
        .next()
        .unwrap_or_default();
    Arrived {
        delivery_id: id,
        event_id: header("X-Bongsu-Event"),
        sender: header("X-Bongsu-Sender"),
        path: &taken.to,
        seq: header("X-Bongsu-Seq").parse().ok(),
        worker: header("X-Bongsu-Worker"),
        attempt: header("X-Bongsu-Attempt").parse().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stands_in_brackets() {
        let read = |text| path(text, "TO:");
        assert_eq!(
            read("TO:<a@b.c> NOTIFY=NEVER"),
            Some(("a@b.c".to_owned(), "NOTIFY=NEVER".to_owned()))
        );
        assert_eq!(
            path("from:<>", "FROM:"),
            Some((String::new(), String::new()))
        );
        for none in [
            "TO:a@b.c",
            "TO:<a@b.c",
            "FROM:<a@b.c>",
            "TO",
            "",
            "TO:<a b@c>",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn a_mail_that_breaks_the_rules_is_refused() {
        let good = "From: a@b\r\nDate: now\r\nMessage-ID: <x@b>\r\n\r\nbody\r\n";
        assert_eq!(fault_of(good.as_bytes()), None);
        for bad in [
            good.replace("From: a@b\r\n", ""),
            good.replace("Date", "From"),
            good.replace("body", "bo\ndy"),
            good.replace("body", "bo\rdy"),
            good.replace("body", &"x".repeat(1_000)),
        ] {
            assert!(fault_of(bad.as_bytes()).is_some(), "{bad}");
        }
    }
}
