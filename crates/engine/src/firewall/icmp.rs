//! Protocol numbers and ICMP types by the names of RFC 792, 4443, 4861 and 4890.

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// ICMP echo reply (RFC 792).
pub(super) const ECHO_REPLY_V4: u8 = 0;
/// ICMP echo request (RFC 792).
pub(super) const ECHO_REQUEST_V4: u8 = 8;
/// ICMP errors: destination unreachable, time exceeded, parameter problem (RFC 792).
pub(super) const ERRORS_V4: [u8; 3] = [3, 11, 12];

/// ICMPv6 errors: destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
pub(super) const ERRORS_V6: [u8; 4] = [1, 2, 3, 4];
/// ICMPv6 echo request (RFC 4443).
pub(super) const ECHO_REQUEST_V6: u8 = 128;
/// ICMPv6 echo reply (RFC 4443).
pub(super) const ECHO_REPLY_V6: u8 = 129;
/// Router and neighbor solicitations and advertisements, inverse neighbor discovery (RFC 4890 section 4.4.1).
pub(super) const NEIGHBOR_DISCOVERY: [u8; 6] = [133, 134, 135, 136, 141, 142];
/// Neighbor solicitation and advertisement alone.
pub(super) const NEIGHBOR: [u8; 2] = [135, 136];
/// What may come from the unspecified address: solicitations of a router and of duplicate address detection (RFC 4861
/// sections 4.1 and 4.3), and MLD's Report, Done and version 2 Report (RFC 3590, RFC 9777 section 5.2.13).
pub(super) const WITHOUT_ADDRESS: [u8; 5] = [133, 135, 131, 132, 143];
/// Redirect (RFC 4861 section 4.5).
pub(super) const REDIRECT: u8 = 137;
/// Multicast listener discovery (RFC 2710, RFC 9777) and multicast router discovery (RFC 4286).
pub(super) const MULTICAST_LISTENER: [u8; 7] = [130, 131, 132, 143, 151, 152, 153];
