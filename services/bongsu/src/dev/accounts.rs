//! Accounts of the simulators, one function per channel that needs one.

use anyhow::Context as _;
use bongsu_runtime::Secret;
use bongsu_simulators::simulators::Running;
use bongsu_simulators::{Kind, Simulators};

use crate::config::Config;

/// Adds the account `default` of every simulator that runs, unless the settings have one. The file of
/// the simulators' authority is to be kept until the providers are made.
pub(super) fn add(
    config: &mut Config,
    simulators: &Simulators,
) -> anyhow::Result<tempfile::NamedTempFile> {
    let authority = tempfile::NamedTempFile::new().context("a file for the authority")?;
    for twin in simulators.running() {
        std::fs::write(authority.path(), twin.authority()).context("writing the authority")?;
        match twin.kind() {
            Kind::Webhook => webhook(config),
            Kind::Discord => discord(config, twin),
            Kind::Apns => apns(config, twin, authority.path())?,
            Kind::AlimTalk => alimtalk(config, twin)?,
            Kind::WebPush => webpush(config),
            Kind::Sms => sms(config, twin)?,
            Kind::Fcm => fcm(config, twin, authority.path())?,
            Kind::Telegram => telegram(config, twin),
            Kind::Slack => slack(config, twin),
            Kind::Sendbird => sendbird(config, twin),
            Kind::Line => line(config, twin),
            Kind::Email => email(config, twin)?,
        }
    }
    Ok(authority)
}

fn webhook(config: &mut Config) {
    let accounts = &mut config.channels.webhook.accounts;
    accounts
        .entry("default".to_owned())
        .or_default()
        .allow_private = true;
}

fn discord(config: &mut Config, twin: &Running) {
    let accounts = &mut config.channels.discord.accounts;
    accounts.entry("default".to_owned()).or_default().api_base = twin.url();
}

fn apns(config: &mut Config, twin: &Running, authority: &std::path::Path) -> anyhow::Result<()> {
    let credentials = twin.credentials().context("it has no credentials")?;
    let apns = &mut config.channels.apns;
    apns.connection.ca_file = Some(authority.to_owned());
    let account = bongsu_channels::apns::config::Account {
        endpoint: twin.tls_url(),
        topic: "com.example.app".to_owned(),
        key: Secret::new(credentials.key.clone()),
        key_id: credentials.key_id.clone(),
        team_id: credentials.team_id.clone(),
        ..apns.accounts.remove("default").unwrap_or_default()
    };
    apns.accounts.insert("default".to_owned(), account);
    Ok(())
}

/// Addresses are what `GET /_sim/webpush/subscription?id=…` of the simulator gives.
fn webpush(config: &mut Config) {
    let account = bongsu_channels::webpush::config::Account {
        // The example of RFC 8291; it opens nothing.
        key: Secret::new("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
        subject: "mailto:development@example.com".to_owned(),
        allow_private: true,
        ..Default::default()
    };
    let accounts = &mut config.channels.webpush.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
}

/// Its bounces come back to the gateway.
fn email(config: &mut Config, twin: &Running) -> anyhow::Result<()> {
    use bongsu_channels::email::config::{Account, Tls};

    let address = twin.smtp_address().context("it has no port for SMTP")?;
    let mut account = Account {
        host: address.ip().to_string(),
        port: address.port(),
        tls: Tls::None,
        from: "Bongsu <bongsu@example.com>".to_owned(),
        return_path: "bounces@example.com".to_owned(),
        reference_secret: Secret::new("development-only"),
        trace: true,
        ..Account::default()
    };
    account.reports.secret = Secret::new("development-only");
    twin.set_relay(bongsu_simulators::email::Plan {
        bounce_url: format!("http://{}/v1/reports/email/default", config.gateway.listen),
        bounce_secret: "development-only".to_owned(),
        ..Default::default()
    })?;
    let accounts = &mut config.channels.email.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
    Ok(())
}

/// Its reports come back to the gateway.
fn alimtalk(config: &mut Config, twin: &Running) -> anyhow::Result<()> {
    use bongsu_channels::alimtalk::config::{Account, ReportMode};
    use bongsu_channels::alimtalk::template::Template;
    use bongsu_simulators::alimtalk;

    let mut account = Account {
        api_base: twin.url(),
        api_key: Secret::new("development"),
        sender_key: "0".repeat(40),
        reference_secret: Secret::new("development-only"),
        ..Account::default()
    };
    account.reports.mode = ReportMode::Webhook;
    account.reports.secret = Secret::new("development-only");
    let free = Template {
        text: "#{text}".to_owned(),
        ..Template::default()
    };
    account.templates.insert("free".to_owned(), free);
    let mut plan = alimtalk::Plan::default();
    plan.reports.mode = alimtalk::ReportMode::Webhook;
    plan.reports.secret = "development-only".to_owned();
    plan.reports.url = format!("http://{}/v1/reports/bizgo/default", config.gateway.listen);
    twin.set_dealer(plan)?;
    let accounts = &mut config.channels.alimtalk.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
    Ok(())
}

/// Solapi's, whose reports come back to the gateway.
fn sms(config: &mut Config, twin: &Running) -> anyhow::Result<()> {
    use bongsu_channels::sms::config::{Account, ReportMode};
    use bongsu_simulators::alimtalk::ReportMode as Told;
    use bongsu_simulators::sms;

    let mut account = Account {
        api_base: twin.url(),
        api_key: sms::SOLAPI_KEY.to_owned(),
        api_secret: Secret::new(sms::SOLAPI_SECRET),
        from: "0212345678".to_owned(),
        reference_secret: Secret::new("development-only"),
        ..Account::default()
    };
    account.reports.mode = ReportMode::Webhook;
    account.reports.secret = Secret::new("development-only");
    let mut plan = sms::Plan::default();
    plan.reports.mode = Told::Webhook;
    plan.reports.secret = "development-only".to_owned();
    plan.reports.url = format!("http://{}/v1/reports/solapi/default", config.gateway.listen);
    twin.set_vendors(plan)?;
    let accounts = &mut config.channels.sms.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
    Ok(())
}

fn fcm(config: &mut Config, twin: &Running, authority: &std::path::Path) -> anyhow::Result<()> {
    let known = twin
        .service_account()
        .context("it has no service account")?;
    let fcm = &mut config.channels.fcm;
    fcm.client.ca_file = Some(authority.to_owned());
    let account = bongsu_channels::fcm::config::Account {
        endpoint: twin.tls_url(),
        token_endpoint: format!("{}/token", twin.url()),
        service_account: Secret::new(known.file.clone()),
        ..Default::default()
    };
    fcm.accounts.insert("default".to_owned(), account);
    Ok(())
}

fn telegram(config: &mut Config, twin: &Running) {
    let account = bongsu_channels::telegram::config::Account {
        api_base: twin.url(),
        token: Secret::new("1:development-only-token"),
        ..Default::default()
    };
    let accounts = &mut config.channels.telegram.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
}

fn slack(config: &mut Config, twin: &Running) {
    let account = bongsu_channels::slack::config::Account {
        webhook_base: twin.url(),
        api_base: twin.url(),
        token: Secret::new("xoxb-development-only"),
        ..Default::default()
    };
    let accounts = &mut config.channels.slack.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
}

fn sendbird(config: &mut Config, twin: &Running) {
    let account = bongsu_channels::sendbird::config::Account {
        api_base: twin.url(),
        api_token: Secret::new("development-only"),
        ..Default::default()
    };
    let accounts = &mut config.channels.sendbird.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
}

fn line(config: &mut Config, twin: &Running) {
    let account = bongsu_channels::line::config::Account {
        api_base: twin.url(),
        token: Secret::new("development-only"),
        ..Default::default()
    };
    let accounts = &mut config.channels.line.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
}
