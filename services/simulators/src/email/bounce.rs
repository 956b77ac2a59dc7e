//! Bounces, made as a relay makes them (RFC 3464), and complaints, as a mailbox provider does (RFC 5965);
//! posted as a mailbox's script would.

use std::time::Duration;

use bongsu_runtime::Shutdown;
use reqwest::Client;
use tokio::sync::mpsc;

/// How often a bounce is posted that is not taken.
const TRIES: u32 = 10;
/// How long to wait for an answer, and between two tries.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// A bounce and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Bounce {
    pub(super) url: String,
    pub(super) secret: String,
    pub(super) mail: String,
}

/// What a bounce is made of.
pub(super) struct Made<'a> {
    /// The mail's return path, to which it goes.
    pub(super) to: &'a str,
    /// Parameters of MAIL FROM and RCPT TO.
    pub(super) from_parameters: &'a str,
    pub(super) to_parameters: &'a str,
    pub(super) recipient: &'a str,
    /// `failed 5.1.1`, or `complaint abuse`.
    pub(super) said: &'a str,
    /// The mail.
    pub(super) data: &'a str,
}

impl Made<'_> {
    /// The mail; `None` when the sender does not want it. [R: RFC 3461, 4.1]
    pub(super) fn mail(&self) -> Option<String> {
        let (action, status) = self.said.split_once(' ')?;
        if action == "complaint" {
            return Some(self.complaint(status));
        }
        let wanted = match action {
            "failed" => "FAILURE",
            "delayed" => "DELAY",
            _ => "SUCCESS",
        };
        let notify = parameter(self.to_parameters, "NOTIFY");
        if notify.is_some_and(|list| !list.split(',').any(|kind| kind == wanted)) {
            return None;
        }
        let envelope_id = parameter(self.from_parameters, "ENVID")
            .map(|id| format!("Original-Envelope-Id: {id}\r\n"))
            .unwrap_or_default();
        let (headers, _) = self.data.split_once("\r\n\r\n").unwrap_or_default();
        Some(format!(
            "From: Mail Delivery System <MAILER-DAEMON@relay.example>\r\n\
             To: <{to}>\r\n\
             Subject: Delivery status\r\n\
             Message-ID: <bounce.{length}@relay.example>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\
             \tboundary=\"=_bounce\"\r\n\r\n\
             --=_bounce\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
             This is what became of your mail: {action}.\r\n\
             --=_bounce\r\nContent-Type: message/delivery-status\r\n\r\n\
             Reporting-MTA: dns; relay.example\r\n{envelope_id}\r\n\
             Final-Recipient: rfc822; {recipient}\r\n\
             Action: {action}\r\n\
             Status: {status}\r\n\
             Diagnostic-Code: smtp; {status} as the plan\r\n says\r\n\r\n\
             --=_bounce\r\nContent-Type: text/rfc822-headers\r\n\r\n\
             {headers}\r\n\r\n--=_bounce--\r\n",
            to = self.to,
            length = self.data.len(),
            recipient = self.recipient,
        ))
    }
}

impl Made<'_> {
    /// A feedback report: who complained is blacked out, as most providers do.
    fn complaint(&self, kind: &str) -> String {
        let headers = self.data.split_once("\r\n\r\n").unwrap_or_default().0;
        let returned: String = headers
            .split_inclusive("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with("to:"))
            .collect();
        format!(
            "From: <abusedesk@mailbox.example>\r\n\
             To: <complaints@example.com>\r\n\
             Subject: FW: complaint\r\n\
             Message-ID: <complaint.{length}@mailbox.example>\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=feedback-report;\r\n\
             \tboundary=\"=_complaint\"\r\n\r\n\
             --=_complaint\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
             This is a complaint about a mail that came from you.\r\n\
             --=_complaint\r\nContent-Type: message/feedback-report\r\n\r\n\
             Feedback-Type: {kind}\r\nUser-Agent: bongsu-twin/1\r\nVersion: 1\r\n\
             Original-Mail-From: <{from}>\r\n\r\n\
             --=_complaint\r\nContent-Type: text/rfc822-headers\r\n\r\n\
             {returned}\r\n\r\n--=_complaint--\r\n",
            length = self.data.len(),
            from = self.to,
        )
    }
}

/// The value of a parameter.
fn parameter<'a>(parameters: &'a str, keyword: &str) -> Option<&'a str> {
    parameters.split_ascii_whitespace().find_map(|word| {
        let (name, value) = word.split_once('=')?;
        name.eq_ignore_ascii_case(keyword).then_some(value)
    })
}

/// Posts one bounce after the other until the shutdown.
pub(super) async fn post_all(
    mut bounces: mpsc::Receiver<Bounce>,
    shutdown: Shutdown,
) -> Result<(), reqwest::Error> {
    let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
    loop {
        tokio::select! {
            // Both branches are cancel safe; a bounce that is being posted is lost with the twin.
            biased;
            () = shutdown.requested() => return Ok(()),
            next = bounces.recv() => match next {
                None => return Ok(()),
                Some(bounce) => tokio::select! {
                    biased;
                    () = shutdown.requested() => return Ok(()),
                    () = post(&client, &bounce) => {}
                },
            },
        }
    }
}

async fn post(client: &Client, bounce: &Bounce) {
    for _ in 0..TRIES {
        let request = client
            .post(&bounce.url)
            .header("content-type", "message/rfc822")
            .header("authorization", format!("Bearer {}", bounce.secret))
            .body(bounce.mail.clone());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) => tracing::warn!(status = %answer.status(), "a bounce is not taken"),
            Err(error) => tracing::debug!(%error, "a bounce cannot be posted"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::error!("a bounce was given up");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_the_return_path_and_nobody() {
        let made = Made {
            to: "bounces+x@example.com",
            from_parameters: "",
            to_parameters: "NOTIFY=NEVER",
            recipient: "ann@example.net",
            said: "complaint abuse",
            data: "Subject: x\r\nTo: ann@example.net\r\n\r\nbody",
        };
        let mail = made.mail().unwrap();
        assert!(mail.contains("Feedback-Type: abuse\r\n"));
        assert!(mail.contains("Original-Mail-From: <bounces+x@example.com>\r\n"));
        assert!(
            mail.contains("Subject: x\r\n") && !mail.contains("ann@"),
            "{mail}"
        );
    }

    #[test]
    fn a_bounce_is_made_when_it_is_wanted() {
        let made = |to_parameters, said| {
            let made = Made {
                to: "bounces@example.com",
                from_parameters: "RET=HDRS ENVID=b1.x",
                to_parameters,
                recipient: "ann@example.net",
                said,
                data: "Subject: x\r\n\r\nbody",
            };
            made.mail()
        };
        let mail = made("NOTIFY=FAILURE,DELAY", "failed 5.1.1").unwrap();
        for line in [
            "Original-Envelope-Id: b1.x\r\n",
            "Status: 5.1.1\r\n",
            "Subject: x\r\n",
        ] {
            assert!(mail.contains(line), "{line} in {mail}");
        }
        assert!(made("", "delivered 2.0.0").is_some());
        assert!(made("NOTIFY=FAILURE", "delivered 2.0.0").is_none());
        assert!(made("NOTIFY=NEVER", "failed 5.1.1").is_none());
    }
}
