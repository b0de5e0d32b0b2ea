//! The DHCPv6 client.
