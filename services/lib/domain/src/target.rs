//! Which URLs may be called on behalf of a publisher.
//!
//! A webhook's address is written by somebody else, so it could point at our own network (server-side
//! request forgery). This is the part of the guard that needs no name resolution: the gateway applies
//! it when an event is published, the webhook channel again before every request, where it also
//! checks what the name resolves to and connects to exactly that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;
use url::{Host, Url};

/// Why a URL is not called. The text never contains the URL: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TargetError {
    /// It does not parse, or has no host.
    #[error("is no absolute URL; write https://host/path")]
    Malformed,
    /// Neither `http` nor `https`.
    #[error("has a scheme other than http or https")]
    Scheme,
    /// User name or password in the URL.
    #[error("contains a user name or password; use the account's secrets instead")]
    UserInfo,
    /// Loopback, private, link-local, metadata or otherwise not on the public internet.
    #[error("leads into a private network; an operator may allow that per account")]
    Private,
}

/// Parses a target and checks everything that can be checked without resolving its name.
///
/// `allow_private` is the account's setting of that name; it lifts [`TargetError::Private`] only.
///
/// # Errors
/// [`TargetError`]; [`TargetError::Private`] also for `localhost` and names below it, which RFC 6761
/// binds to loopback.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, TargetError> {
    let url = Url::parse(text.trim()).map_err(|_| TargetError::Malformed)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(TargetError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TargetError::UserInfo);
    }
    let public = match url.host().ok_or(TargetError::Malformed)? {
        Host::Ipv4(ip) => is_public(IpAddr::V4(ip)),
        Host::Ipv6(ip) => is_public(IpAddr::V6(ip)),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name != "localhost" && !name.ends_with(".localhost")
        }
    };
    if public || allow_private {
        Ok(url)
    } else {
        Err(TargetError::Private)
    }
}

/// Bytes of a device token's hexadecimal form, at least and at most. Apple names no length; 32 bytes
/// are usual, and up to 100 are announced. [R: Apple, `UIApplicationDelegate`, 2026-08]
const TOKEN_DIGITS: std::ops::RangeInclusive<usize> = 64..=200;

/// Whether a text has the form of an APNs device token: an even number of hexadecimal digits.
#[must_use]
pub fn is_device_token(text: &str) -> bool {
    TOKEN_DIGITS.contains(&text.len())
        && text.len().is_multiple_of(2)
        && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether an address is on the public internet: globally reachable by IANA's special-purpose
/// registries (read 2026-11), and no cloud's metadata service.
#[must_use]
pub const fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

const fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, d] = ip.octets();
    !matches!(
        (a, b, c, d),
        // "This network", private, shared (CGNAT; Alibaba's metadata lives there), loopback.
        (0 | 10 | 127, ..)
            | (100, 64..=127, ..)
            | (172, 16..=31, ..)
            | (192, 168, ..)
            // Link-local: the metadata service of AWS, Azure, GCP and others.
            | (169, 254, ..)
            // IETF protocol assignments (Oracle's metadata), documentation, 6to4 relays, benchmarks.
            | (192, 0, 0 | 2, _)
            | (192, 88, 99, _)
            | (198, 18..=19, ..)
            | (198, 51, 100, _)
            | (203, 0, 113, _)
            // Azure's platform service: a public number that only means the machine's own host.
            | (168, 63, 129, 16)
            // Multicast, reserved, broadcast.
            | (224..=255, ..)
    )
}

const fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    match s {
        // IPv4-mapped, and NAT64's well-known prefix: what counts is the address inside.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(embedded(high, low))
        }
        // 6to4 (RFC 3056) carries its IPv4 address in front.
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        // IETF protocol assignments (Teredo, ORCHID, benchmarks) and documentation.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // Everything else that is global unicast; loopback, unique local, link-local, site-local,
        // multicast, IPv4-compatible and local NAT64 all lie outside of 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

const fn embedded(high: u16, low: u16) -> Ipv4Addr {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_targets_are_refused_however_they_are_written() {
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://0/",
            "http://10.0.0.5:8080/x",
            "http://172.31.255.255/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://100.100.100.200/",
            "http://192.0.0.192/",
            "http://168.63.129.16/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::127.0.0.1]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
            "http://[2002:7f00:1::]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[64:ff9b:1::1]/",
            "http://[2001:0:1::1]/",
            "http://[2001:db8::1]/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost:3000/",
        ] {
            assert_eq!(check_url(text, false), Err(TargetError::Private), "{text}");
            assert!(check_url(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn public_targets_pass() {
        for text in [
            "https://example.com/hook?x=1",
            "http://8.8.8.8/",
            "http://172.32.0.1/",
            "http://100.128.0.1/",
            "http://[2606:4700:4700::1111]/",
            "http://[64:ff9b::8.8.8.8]/",
            "https://notlocalhost/",
        ] {
            assert!(check_url(text, false).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_web_url_is_refused_even_where_private_is_allowed() {
        for (text, error) in [
            ("file:///etc/passwd", TargetError::Scheme),
            ("gopher://example.com/", TargetError::Scheme),
            ("ftp://example.com/", TargetError::Scheme),
            ("https://user@example.com/", TargetError::UserInfo),
            ("https://:pw@example.com/", TargetError::UserInfo),
            ("example.com/hook", TargetError::Malformed),
            ("https://", TargetError::Malformed),
            ("", TargetError::Malformed),
        ] {
            assert_eq!(check_url(text, true), Err(error), "{text}");
        }
    }
}
