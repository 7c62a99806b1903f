//! Why a frame or segment went no further.
#![forbid(unsafe_code)]

/// Defines an enum whose variants are counter indices, with a stable name for each.
macro_rules! named_indices {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident => $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name under which it is exported; stable.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}
pub(super) use named_indices;

named_indices! {
    /// One variant per place that discards a frame; each has its own counter.
    DropReason {
        /// Shorter than an Ethernet header, or than the VLAN tags it announces.
        EthernetTruncated => "ethernet_truncated",
        /// More VLAN tags than the one that a flow carries.
        VlanStacked => "vlan_stacked",
        /// Neither IPv4 nor IPv6.
        NotIp => "not_ip",
        /// IPv4 header or total length does not fit the frame.
        Ipv4Truncated => "ipv4_truncated",
        /// IPv4 version or header length is not possible.
        Ipv4Header => "ipv4_header",
        /// IPv4 header checksum is wrong.
        Ipv4Checksum => "ipv4_checksum",
        /// IPv6 header, payload length or an extension header does not fit the frame.
        Ipv6Truncated => "ipv6_truncated",
        /// IPv6 version, or an extension header that ends the matter.
        Ipv6Header => "ipv6_header",
        /// A fragment: path MTU discovery makes them unnecessary, so they are not reassembled.
        Fragment => "fragment",
        /// Source address is no unicast address (RFC 9293 MUST-63).
        BadSource => "bad_source",
        /// Destination address is broadcast, multicast or not ours (RFC 9293 MUST-57).
        NotOurAddress => "not_our_address",
        /// Neither TCP nor ICMP.
        NotTcp => "not_tcp",
        /// TCP header does not fit the packet.
        TcpTruncated => "tcp_truncated",
        /// TCP data offset is below five words or past the segment.
        TcpDataOffset => "tcp_data_offset",
        /// TCP checksum is wrong.
        TcpChecksum => "tcp_checksum",
        /// ICMP message is truncated, has a bad checksum, or quotes no TCP header.
        IcmpMalformed => "icmp_malformed",
        /// ICMP type that does not concern a flow.
        IcmpIgnored => "icmp_ignored",
        /// ICMP error that quotes no flow of ours, or a sequence number out of flight (RFC 5927).
        IcmpUnmatched => "icmp_unmatched",
        /// No listener and no connection: answered with RST unless it was one.
        NoListener => "no_listener",
        /// The listener is draining.
        ListenerDraining => "listener_draining",
        /// The listener's half-open connections are at their limit.
        HalfOpenFull => "half_open_full",
        /// The listener's connections that the application has not taken yet are at their limit.
        BacklogFull => "backlog_full",
        /// The flow table is full.
        FlowTableFull => "flow_table_full",
        /// No chunk was left to keep the octets in.
        NoBuffer => "no_buffer",
        /// Outside the receive window (RFC 9293 §3.10.7.4, first check).
        OutOfWindow => "out_of_window",
        /// A segment without ACK in a state that needs one.
        NoAck => "no_ack",
        /// SEG.ACK acknowledges something not yet sent, or too old.
        BadAck => "bad_ack",
        /// Timestamp older than TS.Recent (RFC 7323 §5, PAWS).
        Paws => "paws",
        /// Timestamps were negotiated and the segment has none (RFC 7323 §3.2).
        NoTimestamp => "no_timestamp",
        /// It would complete a handshake, but echoes no timestamp of the SYN-ACK (RFC 7323 §3.2).
        StaleEcho => "stale_echo",
        /// SYN in a synchronized state (RFC 5961 §4).
        UnexpectedSyn => "unexpected_syn",
        /// RST that is not exactly at RCV.NXT (RFC 5961 §3).
        RstNotExact => "rst_not_exact",
        /// SYN together with FIN or RST, where there is no connection: no TCP sends that.
        BadFlags => "bad_flags",
        /// Text that arrived after the application closed; answered with RST.
        TextAfterClose => "text_after_close",
        /// More out-of-order ranges than one connection may have.
        ReassemblyFull => "reassembly_full",
        /// A segment for a connection in TIME-WAIT that TIME-WAIT does not want.
        TimeWait => "time_wait",
        /// It belongs to another worker, whose ring was full.
        HandOverFull => "hand_over_full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_distinct() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), DropReason::COUNT);
    }
}
