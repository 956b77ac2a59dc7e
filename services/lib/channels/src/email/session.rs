//! One connection to a relay: connect, TLS, EHLO, AUTH, and mails one after the other.
//!
//! The conversation is lettre's, over a [`Wire`] of ours. STARTTLS is spoken here, before lettre sees
//! the connection: what a server says before TLS is forgotten, and one that says more than it was
//! asked (so that it would be taken for said inside of TLS) is left. The wire notes the moment at
//! which the final dot is handed over: until then nothing can have been taken.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bongsu_runtime::Secret;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Ehlo, Mail as MailFrom, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, MailParameter, RcptParameter};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::classify::{Failure, Reply, Step};
use super::config::Tls;
use super::payload::Mail;

/// What ends a mail. lettre hands it over alone, and doubles every dot that begins a line before it.
const FINAL_DOT: &[u8] = b"\r\n.\r\n";
/// The reply that takes a mail. [R: RFC 5321, 4.3.2]
const TAKEN: u16 = 250;
/// Bytes of all that a server may say before TLS.
const CLEAR_BYTES: usize = 8 * 1024;
/// The greeting lettre is shown after STARTTLS, where a server does not greet again.
const GREETED: &[u8] = b"220 secured\r\n";

/// Where a relay is and how it is spoken to.
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Tls,
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
    pub(super) hello: String,
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) connect_timeout: Duration,
    pub(super) dsn: bool,
}

/// TLS as a client: the system's authorities and those of `ca_file`.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut extra = Vec::new();
    if let Some(path) = ca_file {
        let read: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        extra = read.map_err(|e| format!("ca_file {} cannot be read: {e}", path.display()))?;
    }
    let failed = |e: rustls::Error| format!("TLS cannot start: {e}");
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(failed)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The bytes under a conversation.
#[derive(Debug)]
struct Wire {
    /// What is read before anything of the server.
    first: &'static [u8],
    io: Io,
    peer: SocketAddr,
    /// Whether the final dot was handed over.
    dot: Arc<AtomicBool>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let (now, later) = self.first.split_at(self.first.len().min(into.remaining()));
            into.put_slice(now);
            self.first = later;
            return Poll::Ready(Ok(()));
        }
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.ends_with(FINAL_DOT) {
            self.dot.store(true, Ordering::Release);
        }
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

/// What a server offers beside lettre's list.
#[derive(Debug, Clone, Copy, Default)]
struct Offers {
    dsn: bool,
    utf8: bool,
    /// The longest mail; `None` when it did not say.
    size: Option<usize>,
}

/// A connection that is ready for a mail.
pub(super) struct Session {
    smtp: AsyncSmtpConnection,
    dot: Arc<AtomicBool>,
    offers: Offers,
    /// Mails sent over it.
    pub(super) mails: usize,
    /// When it was last used.
    pub(super) used: Instant,
}

impl Session {
    /// Connects, secures, greets and logs in, before `deadline` and within the account's time.
    ///
    /// Cancel safety: dropping the future closes the connection; nothing of a mail has left.
    pub(super) async fn open(endpoint: &Endpoint, deadline: Instant) -> Result<Self, Failure> {
        let until = deadline.min(Instant::now() + endpoint.connect_timeout);
        timeout_at(until, Self::open_now(endpoint))
            .await
            .unwrap_or(Err(Failure::NotSent(Step::Connect)))
    }

    async fn open_now(endpoint: &Endpoint) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            tracing::debug!(%error, "no connection to the relay");
            Failure::NotSent(Step::Connect)
        };
        let (stream, peer) = connect(endpoint).await.map_err(failed)?;
        let secure = |stream| {
            TlsConnector::from(Arc::clone(&endpoint.config)).connect(endpoint.name.clone(), stream)
        };
        let (first, io): (&'static [u8], _) = match endpoint.tls {
            Tls::None => (b"", Io::Plain(stream)),
            Tls::Implicit => (
                b"",
                Io::Tls(Box::new(secure(stream).await.map_err(failed)?)),
            ),
            Tls::Starttls => {
                let stream = starttls(stream, &endpoint.hello).await?;
                (
                    GREETED,
                    Io::Tls(Box::new(secure(stream).await.map_err(failed)?)),
                )
            }
        };
        let dot = Arc::new(AtomicBool::new(false));
        let wire = Wire {
            first,
            io,
            peer,
            dot: Arc::clone(&dot),
        };
        let hello = ClientId::Domain(endpoint.hello.clone());
        let connected = AsyncSmtpConnection::connect_with_transport(Box::new(wire), &hello).await;
        let smtp = connected.map_err(|error| failure(Step::Connect, &error, false))?;
        let mut session = Self {
            smtp,
            dot,
            offers: Offers::default(),
            mails: 0,
            used: Instant::now(),
        };
        session.learn(&hello).await?;
        session.log_in(endpoint).await?;
        session.offers.dsn &= endpoint.dsn;
        Ok(session)
    }

    /// Asks again what is offered: lettre keeps only what it uses itself.
    async fn learn(&mut self, hello: &ClientId) -> Result<(), Failure> {
        let reply = self.smtp.command(Ehlo::new(hello.clone())).await;
        let reply = reply.map_err(|error| failure(Step::Connect, &error, false))?;
        for line in reply.message().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "DSN" => self.offers.dsn = true,
                "SMTPUTF8" => self.offers.utf8 = true,
                "SIZE" => {
                    let size = words.next().and_then(|n| n.parse().ok());
                    // 0 is no limit. [R: RFC 1870, 4]
                    self.offers.size = size.filter(|size| *size > 0);
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn log_in(&mut self, endpoint: &Endpoint) -> Result<(), Failure> {
        if endpoint.username.is_empty() {
            return Ok(());
        }
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        if self
            .smtp
            .server_info()
            .get_auth_mechanism(&mechanisms)
            .is_none()
        {
            return Err(Failure::NotOffered(Step::Login));
        }
        let password = endpoint.password.expose().to_owned();
        let credentials = Credentials::new(endpoint.username.clone(), password);
        let said = self.smtp.auth(&mechanisms, &credentials).await;
        said.map(drop)
            .map_err(|error| failure(Step::Login, &error, false))
    }

    /// Whether the final dot of the last mail was handed over.
    pub(super) fn dot_left(&self) -> bool {
        self.dot.load(Ordering::Acquire)
    }

    /// Sends a mail.
    ///
    /// Cancel safety: the session cannot be used again; [`Session::dot_left`] tells whether the mail
    /// may have been taken.
    pub(super) async fn send(&mut self, mail: &Mail) -> Result<(), Failure> {
        self.dot.store(false, Ordering::Release);
        if self.offers.size.is_some_and(|most| mail.bytes.len() > most) {
            return Err(Failure::TooLarge);
        }
        let utf8 = !AsRef::<str>::as_ref(&mail.to).is_ascii();
        if utf8 && !self.offers.utf8 {
            return Err(Failure::NotOffered(Step::Rcpt));
        }
        let (from, to) = self.parameters(mail, utf8);
        let from = MailFrom::new(Some(mail.return_path.clone()), from);
        self.step(Step::Mail, from).await?;
        self.step(Step::Rcpt, Rcpt::new(mail.to.clone(), to))
            .await?;
        self.step(Step::Data, Data).await?;
        self.mails += 1;
        match self.smtp.message(&mail.bytes).await {
            Ok(reply) if reply.has_code(TAKEN) => Ok(()),
            // Another success says something else than that the mail was taken.
            Ok(reply) => {
                let text = reply.first_line().unwrap_or_default();
                let reply = Reply::new(reply.code().into(), text);
                Err(Failure::Refused(Step::Dot, reply))
            }
            Err(error) => Err(failure(Step::Dot, &error, self.dot_left())),
        }
    }

    /// Forgets a mail that was refused, so that the next one can follow; false when the connection is
    /// of no use any more.
    pub(super) async fn reset(&mut self) -> bool {
        self.smtp.command(Rset).await.is_ok()
    }

    fn parameters(&self, mail: &Mail, utf8: bool) -> (Vec<MailParameter>, Vec<RcptParameter>) {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        if self.offers.size.is_some() {
            from.push(MailParameter::Size(mail.bytes.len()));
        }
        if utf8 {
            from.push(MailParameter::SmtpUtfEight);
        }
        if self.offers.dsn {
            // [R: RFC 3461, 4]
            for (keyword, value) in [("RET", "HDRS"), ("ENVID", mail.envelope_id.as_str())] {
                from.push(MailParameter::Other {
                    keyword: keyword.to_owned(),
                    value: Some(value.to_owned()),
                });
            }
            let kind = if utf8 { "utf-8" } else { "rfc822" };
            for (keyword, value) in [
                ("NOTIFY", "FAILURE,DELAY".to_owned()),
                ("ORCPT", format!("{kind};{}", mail.to)),
            ] {
                to.push(RcptParameter::Other {
                    keyword: keyword.to_owned(),
                    value: Some(value),
                });
            }
        }
        (from, to)
    }

    async fn step(&mut self, step: Step, command: impl Display) -> Result<(), Failure> {
        let said = self.smtp.command(command).await;
        said.map(drop).map_err(|error| failure(step, &error, false))
    }
}

/// The failure an error of lettre's is.
fn failure(step: Step, error: &SmtpError, dot_left: bool) -> Failure {
    if let Some(code) = error.status() {
        let text = std::error::Error::source(error).map(ToString::to_string);
        return Failure::Refused(step, Reply::new(code.into(), &text.unwrap_or_default()));
    }
    // The text could hold what the server said, and that an address.
    tracing::debug!(?step, dot_left, "the conversation with the relay broke");
    if dot_left {
        Failure::Lost
    } else {
        Failure::NotSent(step)
    }
}

async fn connect(endpoint: &Endpoint) -> io::Result<(TcpStream, SocketAddr)> {
    let found = lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in found {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok((stream, address));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Greeting, EHLO and STARTTLS in the clear.
async fn starttls(mut stream: TcpStream, hello: &str) -> Result<TcpStream, Failure> {
    let mut read = Clear::default();
    let greeting = read.reply(&mut stream).await?;
    expect(&greeting, 220)?;
    let offered = ask(&mut stream, &mut read, &format!("EHLO {hello}\r\n")).await?;
    expect(&offered, 250)?;
    let has = |line: &str| {
        let keyword = line
            .get(4..)
            .and_then(|rest| rest.split_ascii_whitespace().next());
        keyword.is_some_and(|keyword| keyword.eq_ignore_ascii_case("STARTTLS"))
    };
    if !offered.lines().any(has) {
        return Err(Failure::NotOffered(Step::Connect));
    }
    let ready = ask(&mut stream, &mut read, "STARTTLS\r\n").await?;
    expect(&ready, 220)?;
    // More than the answer would be believed to have come through TLS.
    if !read.bytes.is_empty() {
        return Err(Failure::NotOffered(Step::Connect));
    }
    Ok(stream)
}

async fn ask(stream: &mut TcpStream, read: &mut Clear, line: &str) -> Result<String, Failure> {
    let written = stream.write_all(line.as_bytes()).await;
    written.map_err(|_| Failure::NotSent(Step::Connect))?;
    read.reply(stream).await
}

fn expect(reply: &str, wanted: u16) -> Result<(), Failure> {
    let line = reply.lines().last().unwrap_or_default();
    let code = line.get(..3).and_then(|code| code.parse().ok());
    match code {
        Some(code) if code == wanted => Ok(()),
        Some(code) => {
            let reply = Reply::new(code, line.get(4..).unwrap_or_default());
            Err(Failure::Refused(Step::Connect, reply))
        }
        None => Err(Failure::NotSent(Step::Connect)),
    }
}

/// What was read in the clear and not yet used.
#[derive(Default)]
struct Clear {
    bytes: Vec<u8>,
    /// All that was read.
    total: usize,
}

impl Clear {
    /// The next reply: lines up to the one whose number is followed by a space.
    async fn reply(&mut self, stream: &mut TcpStream) -> Result<String, Failure> {
        let mut reply = String::new();
        loop {
            while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                reply.push_str(line.trim_end());
                if line.as_bytes().get(3) != Some(&b'-') {
                    return Ok(reply);
                }
                reply.push('\n');
            }
            let mut more = [0; 1_024];
            let n = stream.read(&mut more).await.unwrap_or(0);
            self.total += n;
            if n == 0 || self.total > CLEAR_BYTES {
                return Err(Failure::NotSent(Step::Connect));
            }
            self.bytes
                .extend_from_slice(more.get(..n).unwrap_or_default());
        }
    }
}
