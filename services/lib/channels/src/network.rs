//! Who may call: addresses and networks of callers, and proxies of ours that name them.

use std::net::IpAddr;

use reqwest::header::HeaderMap;

use crate::reports::{Callback, Refusal};

/// An address or a network of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/32`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether an address lies in it. An IPv4 address inside IPv6 counts as what it is.
    #[must_use]
    pub fn holds(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let rest = 32 - u32::from(self.bits);
                let shift = |ip: u32| ip.checked_shr(rest).unwrap_or(0);
                shift(own.to_bits()) == shift(ip.to_bits())
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let rest = 128 - u32::from(self.bits);
                let shift = |ip: u128| ip.checked_shr(rest).unwrap_or(0);
                shift(own.to_bits()) == shift(ip.to_bits())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Whose callbacks an account takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callers {
    allowed: Vec<Network>,
    proxies: Vec<Network>,
}

impl Callers {
    /// Takes lists that were checked; what is no network is left out. An empty `allowed` allows
    /// everybody.
    #[must_use]
    pub fn new(allowed: &[String], proxies: &[String]) -> Self {
        let read = |list: &[String]| list.iter().filter_map(|t| Network::parse(t)).collect();
        Self {
            allowed: read(allowed),
            proxies: read(proxies),
        }
    }

    /// Whether a callback comes from an allowed address.
    ///
    /// # Errors
    /// [`Refusal::Source`].
    pub fn check(&self, callback: &Callback<'_>) -> Result<(), Refusal> {
        if self.allowed.is_empty() {
            return Ok(());
        }
        let caller = callback
            .peer
            .map(|peer| self.caller(callback.headers, peer));
        let known = caller.is_some_and(|ip| self.allowed.iter().any(|n| n.holds(ip)));
        if known { Ok(()) } else { Err(Refusal::Source) }
    }

    /// Who called: the peer, or whom our own proxies name.
    fn caller(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        let ours = |ip: IpAddr| self.proxies.iter().any(|network| network.holds(ip));
        if !ours(peer) {
            return peer;
        }
        let named = headers.get_all("x-forwarded-for").iter();
        let list: Vec<IpAddr> = named
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .filter_map(|ip| ip.trim().parse().ok())
            .collect();
        // The last one that is not ours was seen by a proxy of ours; those before are hearsay.
        list.into_iter().rev().find(|ip| !ours(*ip)).unwrap_or(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_lies_in_them() {
        let holds =
            |network: &str, ip: &str| Network::parse(network).unwrap().holds(ip.parse().unwrap());
        assert!(holds("203.0.113.0/24", "203.0.113.200"));
        assert!(holds("203.0.113.7", "::ffff:203.0.113.7"));
        assert!(!holds("203.0.113.7", "203.0.113.8"));
        assert!(holds("0.0.0.0/0", "8.8.8.8"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1"));
        assert!(!holds("2001:db8::/32", "203.0.113.7"));
        for bad in ["", "x", "203.0.113.0/33", "203.0.113.0/x"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
