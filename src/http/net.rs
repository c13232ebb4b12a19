//! Ranges of addresses: `10.0.0.0/8`, `fd00::/8`, `127.0.0.1`.

use std::net::IpAddr;
use std::str::FromStr;

/// A network: the addresses that share the first `bits` of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    addr: IpAddr,
    bits: u32,
}

impl Net {
    /// Whether it holds the address; an IPv4 one written as IPv6 (`::ffff:10.0.0.1`) is IPv4.
    pub(crate) fn holds(&self, addr: IpAddr) -> bool {
        let different = match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        different >= self.bits
    }
}

/// What is wrong with the text of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadNet(pub(crate) &'static str);

impl FromStr for Net {
    type Err = BadNet;

    fn from_str(text: &str) -> Result<Net, BadNet> {
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| BadNet("not an address"))?;
        if addr != addr.to_canonical() {
            return Err(BadNet("an IPv4 address: write it as one"));
        }
        let bits_max = if addr.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().unwrap_or(u32::MAX)
            }
            Some(_) => u32::MAX,
        };
        if bits > bits_max {
            return Err(BadNet("a prefix length that does not fit"));
        }
        let rest = match addr {
            IpAddr::V4(addr) => addr.to_bits().checked_shl(bits).unwrap_or(0) != 0,
            IpAddr::V6(addr) => addr.to_bits().checked_shl(bits).unwrap_or(0) != 0,
        };
        if rest {
            return Err(BadNet("an address with bits behind its prefix"));
        }
        Ok(Net { addr, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (net, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1 ::ffff:10.1.2.3", "11.0.0.0 9.255.255.255 ::1 fd00::1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("127.0.0.1/32", "127.0.0.1", "127.0.0.0"),
            ("0.0.0.0/0", "0.0.0.0 255.255.255.255 ::ffff:1.2.3.4", "::"),
            ("::/0", ":: fd00::1", "1.2.3.4 ::ffff:1.2.3.4"),
            ("fd00::/8", "fd00::1 fdff::", "fe00:: 10.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("::1", "::1", "::2 127.0.0.1"),
        ] {
            let parsed: Net = net.parse().expect(net);
            let holds = |addr: &str| parsed.holds(addr.parse().expect(addr));
            assert!(inside.split(' ').all(holds), "{net} of {inside}");
            assert!(!outside.split(' ').any(holds), "{net} of {outside}");
        }
    }

    #[test]
    fn what_is_none() {
        let (address, length) = ("not an address", "a prefix length that does not fit");
        for (text, want) in [
            ("", address),
            ("/", address),
            ("/8", address),
            ("10", address),
            ("10.0.0/8", address),
            ("10.0.0.0.0", address),
            ("010.0.0.0/8", address),
            (" 10.0.0.0/8", address),
            ("localhost", address),
            ("[::1]", address),
            ("fe80::1%eth0", address),
            ("10.0.0.0/", length),
            ("10.0.0.0/33", length),
            ("10.0.0.0/-1", length),
            ("10.0.0.0/+8", length),
            ("10.0.0.0/8/8", length),
            ("10.0.0.0/255.0.0.0", length),
            ("10.0.0.0/99999999999999999999", length),
            ("::/129", length),
            ("10.0.0.1/8", "an address with bits behind its prefix"),
            ("0.0.0.1/0", "an address with bits behind its prefix"),
            ("fd00::1/8", "an address with bits behind its prefix"),
            ("::ffff:10.0.0.0/104", "an IPv4 address: write it as one"),
        ] {
            assert_eq!(text.parse::<Net>(), Err(BadNet(want)), "{text}");
        }
    }
}
