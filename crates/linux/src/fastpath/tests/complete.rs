//! Checksums that the card has computed over the whole packet (CHECKSUM_COMPLETE) stay right.
use super::*;
use crate::testing::in_namespace;

/// BPF_F_TEST_SKB_CHECKSUM_COMPLETE, from Linux 6.16 on: the kernel compares the sum with the packet afterwards.
const CHECKSUM_COMPLETE: u32 = 1 << 2;

#[test]
fn sums_over_the_whole_packet_are_kept_right() {
    in_namespace(|| async {
        if aya::util::KernelVersion::current().unwrap() < aya::util::KernelVersion::new(6, 16, 0) {
            return eprintln!("not tried: the kernel cannot check it before 6.16");
        }
        let plan = Nat64Plan { mtu_v4: 9000, mtu_v6: 9000, ..plan() };
        let mut rig = Rig::new(&plan);
        let mut count = 0;
        for protocol in [6, 17, 1] {
            let mut traffic = fuzz::Traffic::new(u64::from(protocol), &plan);
            let session = traffic.session(&rig, protocol);
            rig.insert(&session);
            for _ in 0..50 {
                for packet in [traffic.plain_v6(&session), traffic.plain_v4(&session)] {
                    let plainly = rig.run(&packet);
                    assert_eq!(strip(plainly), strip(rig.run_with(&packet, 0, CHECKSUM_COMPLETE)));
                    count += 1;
                }
            }
        }
        assert_eq!(count, 300);
    });
}

fn strip(outcome: Outcome) -> Vec<u8> {
    let Outcome::Translated(packet) = outcome else { panic!("{outcome:?}") };
    normalized(packet)
}
