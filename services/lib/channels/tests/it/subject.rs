//! What the suites of all channels must know of each: one entry per channel, and the only place of
//! theirs that a new channel changes.

use std::time::Duration;

use bongsu_channels::provider::{AttemptResult, ThrottleScope};
use bongsu_channels::{Settings, discord, line, sendbird, slack, telegram, webhook};
use bongsu_domain::Channel;
use bongsu_runtime::Secret;
use bongsu_simulators::Simulators;
use bongsu_simulators::webpush::subscription;

use crate::server::{Reply, Speaks};
use crate::{alimtalk_account, apns, apns_account, email, fcm, http2, sms_account, webpush};

/// A channel as the suites see it.
pub(crate) struct Subject {
    /// Adds the account `test`, which reaches a server at this base, to the settings.
    pub(crate) account: fn(&mut Settings, &str),
    /// The same for the channel's own twin.
    pub(crate) twin_account: fn(&mut Settings, &Simulators),
    /// An address at this base; what is secret of it holds `secret-part` or `5ec1e7`.
    pub(crate) address: fn(&str) -> String,
    /// The answer of a provider that took one request.
    pub(crate) taken: Reply,
    /// What a success without a readable body means: for most it is one, some say in the body
    /// whether it is.
    pub(crate) wordless: AttemptResult,
    /// What it speaks.
    pub(crate) speaks: Speaks,
    /// Whom a 429 concerns.
    pub(crate) throttled: ThrottleScope,
    /// Whether a 429 of the twin says how long to wait.
    pub(crate) tells_wait: bool,
    /// Whether the twin recognises a second copy.
    pub(crate) dedupes: bool,
}

impl Subject {
    /// A channel over plain HTTP whose provider says all with its status and serves one address at a
    /// time.
    fn new(
        account: fn(&mut Settings, &str),
        twin_account: fn(&mut Settings, &Simulators),
        address: fn(&str) -> String,
    ) -> Self {
        Self {
            account,
            twin_account,
            address,
            taken: Reply::answer(204, "", ""),
            wordless: AttemptResult::Accepted,
            speaks: Speaks::Http1,
            throttled: ThrottleScope::Address,
            tells_wait: true,
            dedupes: false,
        }
    }

    /// Too short for an answer that does not come, and long enough for a request to be sent.
    pub(crate) const fn short(&self) -> Duration {
        match self.speaks {
            // Nothing is sent when less than half a second is left.
            Speaks::Http2 => Duration::from_secs(2),
            Speaks::Http1 | Speaks::Smtp => Duration::from_millis(500),
        }
    }
}

/// The entry of a channel.
pub(crate) fn subject(channel: Channel) -> Subject {
    match channel {
        Channel::Webhook => Subject::new(
            |settings, _| webhook(settings),
            |settings, _| webhook(settings),
            |base| format!("{base}/hook/secret-part"),
        ),
        Channel::Discord => Subject::new(
            discord,
            |settings, twins| discord(settings, &twins.running()[0].url()),
            |_| "123/secret-part".to_owned(),
        ),
        Channel::Apns => Subject {
            speaks: Speaks::Http2,
            // Apple names no time.
            tells_wait: false,
            ..Subject::new(
                |settings, base| {
                    settings.apns.connection.ca_file = Some(http2::ca_file());
                    let account = apns_account(&base.replace("http://", "https://"));
                    settings.apns.accounts.insert("test".into(), account);
                },
                |settings, twins| settings.apns = apns::settings_for(twins),
                |_| format!("{}5ec1e7", "0a".repeat(29)),
            )
        },
        Channel::AlimTalk => Subject {
            taken: Reply::answer(
                200,
                "",
                r#"{"common":{"authCode":"A000"},"data":{"code":"A000","data":{"destinations":[
                    {"to":"01012345678","msgKey":"k","code":"A000"}]}}}"#,
            ),
            wordless: AttemptResult::Unknown,
            throttled: ThrottleScope::Account,
            dedupes: true,
            ..Subject::new(
                alimtalk,
                |settings, twins| alimtalk(settings, &twins.running()[0].url()),
                |_| "010-1234-5678".to_owned(),
            )
        },
        Channel::WebPush => Subject::new(
            |settings, _| webpush(settings),
            |settings, _| webpush(settings),
            |base| subscription(base, "secret-part"),
        ),
        Channel::Sms => Subject {
            taken: Reply::answer(
                200,
                "",
                r#"{"failedMessageList":[],"groupInfo":{"groupId":"G","count":{"registeredFailed":0}}}"#,
            ),
            wordless: AttemptResult::Unknown,
            throttled: ThrottleScope::Account,
            ..Subject::new(
                sms,
                |settings, twins| sms(settings, &twins.running()[0].url()),
                |_| "010-1234-5678".to_owned(),
            )
        },
        Channel::Fcm => Subject {
            speaks: Speaks::Http2,
            throttled: ThrottleScope::Account,
            ..Subject::new(fcm::account, fcm::twin_account, |_| {
                "bk3RNwTe3H0:5ec1e7_HHwgIpo".to_owned()
            })
        },
        Channel::Telegram => Subject {
            taken: Reply::answer(200, "", r#"{"ok":true,"result":{}}"#),
            wordless: AttemptResult::Unknown,
            throttled: ThrottleScope::Account,
            ..Subject::new(
                telegram,
                |settings, twins| telegram(settings, &twins.running()[0].url()),
                |_| "-1001234567890".to_owned(),
            )
        },
        Channel::Slack => Subject {
            taken: Reply::answer(200, "", "ok"),
            wordless: AttemptResult::Unknown,
            ..Subject::new(
                slack,
                |settings, twins| slack(settings, &twins.running()[0].url()),
                |base| format!("{base}/services/T0000/B0000/5ec1e7"),
            )
        },
        Channel::Sendbird => Subject {
            taken: Reply::answer(200, "", r#"{"message_id":1}"#),
            wordless: AttemptResult::Unknown,
            throttled: ThrottleScope::Account,
            dedupes: true,
            ..Subject::new(
                sendbird,
                |settings, twins| sendbird(settings, &twins.running()[0].url()),
                |_| "sendbird_group_channel_1_5ec1e7".to_owned(),
            )
        },
        Channel::Line => Subject {
            taken: Reply::answer(200, "", r#"{"sentMessages":[]}"#),
            wordless: AttemptResult::Unknown,
            throttled: ThrottleScope::Account,
            dedupes: true,
            ..Subject::new(
                line,
                |settings, twins| line(settings, &twins.running()[0].url()),
                |_| format!("U{}5ec1e7", "0a".repeat(13)),
            )
        },
        Channel::Email => Subject {
            speaks: Speaks::Smtp,
            taken: Reply::Bytes(b"250 2.0.0 queued\r\n".to_vec()),
            // What is no reply may have followed a mail that was taken.
            wordless: AttemptResult::Unknown,
            ..Subject::new(
                |settings, base| email(settings, email::account(base)),
                |settings, twins| email(settings, email::twin_account(twins)),
                |_| "secret-part@example.net".to_owned(),
            )
        },
    }
}

/// A bot's token that opens nothing.
pub(crate) const BOT_TOKEN: &str = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11";

pub(crate) fn telegram(settings: &mut Settings, base: &str) {
    let account = telegram::config::Account {
        api_base: base.to_owned(),
        token: Secret::new(BOT_TOKEN),
        ..Default::default()
    };
    settings.telegram.accounts.insert("test".into(), account);
}

pub(crate) fn slack(settings: &mut Settings, base: &str) {
    let account = slack::config::Account {
        webhook_base: base.to_owned(),
        api_base: base.to_owned(),
        token: Secret::new("xoxb-test"),
        ..Default::default()
    };
    settings.slack.accounts.insert("test".into(), account);
}

pub(crate) fn sendbird(settings: &mut Settings, base: &str) {
    let account = sendbird::config::Account {
        api_base: base.to_owned(),
        api_token: Secret::new("token-of-the-application"),
        ..Default::default()
    };
    settings.sendbird.accounts.insert("test".into(), account);
}

pub(crate) fn line(settings: &mut Settings, base: &str) {
    let account = line::config::Account {
        api_base: base.to_owned(),
        token: Secret::new("token-of-the-account"),
        ..Default::default()
    };
    settings.line.accounts.insert("test".into(), account);
}

fn webpush(settings: &mut Settings) {
    let accounts = &mut settings.webpush.accounts;
    accounts.insert("test".into(), webpush::account());
}

fn email(settings: &mut Settings, account: bongsu_channels::email::config::Account) {
    settings.email.accounts.insert("test".into(), account);
}

fn webhook(settings: &mut Settings) {
    let account = webhook::config::Account {
        allow_private: true,
        ..Default::default()
    };
    settings.webhook.accounts.insert("test".into(), account);
}

fn discord(settings: &mut Settings, base: &str) {
    let account = discord::config::Account {
        api_base: base.to_owned(),
        // The suites send many at once to one webhook.
        burst: 0,
        ..Default::default()
    };
    settings.discord.accounts.insert("test".into(), account);
}

fn sms(settings: &mut Settings, base: &str) {
    let account = sms_account(base);
    settings.sms.accounts.insert("test".into(), account);
}

fn alimtalk(settings: &mut Settings, base: &str) {
    let account = alimtalk_account(base);
    settings.alimtalk.accounts.insert("test".into(), account);
}
