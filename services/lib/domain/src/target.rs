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
    /// A port on which something other than HTTP listens.
    #[error("names a port of another protocol, which could be fooled by a request; use 443 or 80")]
    Port,
    /// Loopback, private, link-local, metadata or otherwise not on the public internet.
    #[error("leads into a private network; an operator may allow that per account")]
    Private,
}

/// Ports that browsers do not call either, for what listens there might take a request for a command
/// of its own protocol. [R: WHATWG Fetch, "port blocking", 2026-08; the list itself M] Beside them
/// the usual ports of databases, caches and container engines that answer whoever asks. (D)
const PORTS: &[u16] = &[
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080, // From here on decided here.
    2375, 2376, 2379, 3306, 5432, 6379, 9092, 9200, 10250, 11211, 27017,
];

/// Names that mean something inside a network only. [R: RFC 6761 (localhost), RFC 6762 (local),
/// RFC 8375 (home.arpa), ICANN 2024 (internal); localdomain is custom]
const INSIDE: &[&str] = &["localhost", "local", "internal", "home.arpa", "localdomain"];

/// Parses a target and checks everything that can be checked without resolving its name.
///
/// `allow_private` is the account's setting of that name; it lifts [`TargetError::Private`] and
/// [`TargetError::Port`] only.
///
/// # Errors
/// [`TargetError`]; [`TargetError::Private`] also for `localhost`, `internal` and their like, and for
/// every name below them.
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
        Host::Domain(name) => !is_inside(name.trim_end_matches('.')),
    };
    if allow_private {
        return Ok(url);
    }
    if !public {
        return Err(TargetError::Private);
    }
    if url.port().is_some_and(|port| PORTS.contains(&port)) {
        return Err(TargetError::Port);
    }
    Ok(url)
}

fn is_inside(name: &str) -> bool {
    INSIDE.iter().any(|inside| {
        name.strip_suffix(inside)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
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
        // An ISATAP interface (RFC 5214) is a tunnel to the IPv4 address at its end.
        [first, _, _, _, 0 | 0x0200, 0x5efe, high, low] => {
            first & 0xe000 == 0x2000 && is_public_v4(embedded(high, low))
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
            "http://metadata.google.internal/",
            "http://printer.local/",
            "http://nas.home.arpa./",
            "http://[2606:4700::5efe:10.0.0.1]/",
            "http://[2606:4700::200:5efe:127.0.0.1]/",
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
            "https://internal.example.com:8443/",
            "https://example.com:443/",
        ] {
            assert!(check_url(text, false).is_ok(), "{text}");
        }
    }

    #[test]
    fn ports_of_other_protocols_are_refused_unless_private_is_allowed() {
        for text in [
            "http://example.com:22/",
            "http://example.com:25/",
            "https://example.com:6379/",
            "http://8.8.8.8:2375/",
        ] {
            assert_eq!(check_url(text, false), Err(TargetError::Port), "{text}");
            assert!(check_url(text, true).is_ok(), "{text}");
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
