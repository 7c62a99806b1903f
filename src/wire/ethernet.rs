//! Ethernet II headers, with at most one VLAN tag (IEEE 802.1Q).
#![forbid(unsafe_code)]

use core::fmt;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::DropReason;

/// EtherType of IPv4.
pub const ETHER_TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHER_TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHER_TYPE_IPV6: u16 = 0x86dd;
/// Tag protocol identifier of a customer VLAN tag (802.1Q).
pub const ETHER_TYPE_VLAN: u16 = 0x8100;
/// Tag protocol identifier of a service VLAN tag (802.1ad).
pub const ETHER_TYPE_SERVICE_VLAN: u16 = 0x88a8;

/// Octets of an Ethernet header without a VLAN tag.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Octets that a VLAN tag adds.
pub const VLAN_TAG_LEN: usize = size_of::<VlanTag>();

/// The twelve bits of a tag control information that are the VLAN identifier.
const VID_MASK: u16 = 0x0fff;

/// A link-layer address.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group of stations; broadcast is one.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A frame whose header has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetView<'a> {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// VLAN identifier, twelve bits. `None` without a tag, and with a tag that only carries a priority.
    pub vlan: Option<u16>,
    /// EtherType of the payload.
    pub ether_type: u16,
    /// What follows the header, padding included.
    pub payload: &'a [u8],
}

impl<'a> EthernetView<'a> {
    /// Reads the header of `frame`.
    ///
    /// # Errors
    ///
    /// [`DropReason::EthernetTruncated`] and [`DropReason::VlanStacked`].
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Self, DropReason> {
        let (header, rest) = Header::ref_from_prefix(frame).map_err(|_| DropReason::EthernetTruncated)?;
        let (vlan, ether_type, payload) = match header.ether_type.get() {
            ETHER_TYPE_VLAN | ETHER_TYPE_SERVICE_VLAN => untag(rest)?,
            ether_type => (None, ether_type, rest),
        };
        Ok(Self { dst: header.dst, src: header.src, vlan, ether_type, payload })
    }
}

/// Writes a header, tagged if `vlan` is a VLAN identifier; returns its length, 14 or 18 octets.
///
/// # Panics
///
/// If `out` is shorter than that.
#[inline]
pub fn emit(out: &mut [u8], dst: Mac, src: Mac, vlan: Option<u16>, ether_type: u16) -> usize {
    let outer_type = if vlan.is_some() { ETHER_TYPE_VLAN } else { ether_type };
    // In place: put together elsewhere and then copied, it would be read before its parts have settled.
    let (header, _) = Header::mut_from_prefix(out).expect("the caller leaves room for an Ethernet header");
    header.dst = dst;
    header.src = src;
    header.ether_type = outer_type.into();
    let Some(vid) = vlan else { return HEADER_LEN };
    let tag = VlanTag { tci: (vid & VID_MASK).into(), ether_type: ether_type.into() };
    tag.write_to_prefix(&mut out[HEADER_LEN..]).expect("the caller leaves room for a VLAN tag");
    HEADER_LEN + VLAN_TAG_LEN
}

/// The fixed part of a header.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    dst: Mac,
    src: Mac,
    ether_type: U16,
}

/// What follows a tag protocol identifier.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct VlanTag {
    tci: U16,
    ether_type: U16,
}

const _: () = assert!(HEADER_LEN == 14 && VLAN_TAG_LEN == 4);

/// The VLAN identifier, EtherType and payload behind a tag protocol identifier.
fn untag(bytes: &[u8]) -> Result<(Option<u16>, u16, &[u8]), DropReason> {
    let (tag, payload) = VlanTag::ref_from_prefix(bytes).map_err(|_| DropReason::EthernetTruncated)?;
    match tag.ether_type.get() {
        ETHER_TYPE_VLAN | ETHER_TYPE_SERVICE_VLAN => Err(DropReason::VlanStacked),
        ether_type => {
            let vid = tag.tci.get() & VID_MASK;
            // 802.1Q: identifier 0 says that the frame is on no VLAN and only has a priority.
            Ok(((vid != 0).then_some(vid), ether_type, payload))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::vec;
    use std::vec::Vec;

    const DST: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const SRC: Mac = Mac([2, 0, 0, 0xa, 0xbc, 0xff]);

    fn frame(after_addresses: &[u8]) -> Vec<u8> {
        [&DST.0[..], &SRC.0[..], after_addresses].concat()
    }

    #[test]
    fn tags_are_read_and_stacks_refused() {
        for (octets, want, why) in [
            (&[8, 0][..], Ok((None, 0x0800, 0)), "a header and nothing else"),
            (&[8, 0, 7], Ok((None, 0x0800, 1)), "untagged"),
            (&[0x81, 0, 0, 5, 8, 0, 7], Ok((Some(5), 0x0800, 1)), "802.1Q"),
            (&[0x88, 0xa8, 0, 5, 8, 0, 7], Ok((Some(5), 0x0800, 1)), "802.1ad"),
            (&[0x81, 0, 0xff, 0xff, 0x86, 0xdd], Ok((Some(0xfff), 0x86dd, 0)), "priority is not identifier"),
            (&[0x81, 0, 0xe0, 0, 8, 0], Ok((None, 0x0800, 0)), "priority tag"),
            (&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0], Err(DropReason::VlanStacked), "a stack"),
            (&[0x81, 0, 0, 0, 0x81, 0, 0, 6, 8, 0], Err(DropReason::VlanStacked), "a stack on a priority"),
            (&[8], Err(DropReason::EthernetTruncated), "13 octets"),
            (&[0x81, 0, 0, 5, 8], Err(DropReason::EthernetTruncated), "17 octets, tagged"),
        ] {
            let frame = frame(octets);
            let got = EthernetView::parse(&frame).map(|v| (v.vlan, v.ether_type, v.payload.len()));
            assert_eq!(got, want, "{why}");
        }
    }

    #[test]
    fn addresses_print_as_usual() {
        assert_eq!(format!("{SRC} {SRC:?}"), "02:00:00:0a:bc:ff 02:00:00:0a:bc:ff");
    }

    #[test]
    fn groups_are_told_from_stations() {
        assert!(Mac::BROADCAST.is_multicast() && Mac([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(!SRC.is_multicast());
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            dst: [u8; 6], src: [u8; 6], vlan in prop::option::of(1u16..0xfff), payload: [u8; 5],
        ) {
            let mut out = vec![0xaa; HEADER_LEN + VLAN_TAG_LEN + payload.len()];
            let len = emit(&mut out, Mac(dst), Mac(src), vlan, ETHER_TYPE_IPV6);
            prop_assert_eq!(len, if vlan.is_some() { 18 } else { 14 });
            out[len..len + payload.len()].copy_from_slice(&payload);
            let want = EthernetView {
                dst: Mac(dst), src: Mac(src), vlan, ether_type: ETHER_TYPE_IPV6, payload: &payload,
            };
            prop_assert_eq!(EthernetView::parse(&out[..len + payload.len()]), Ok(want));
        }
    }
}
