//! Packets of a session from another host than the client.
use super::*;
use crate::testing::in_namespace;

#[test]
fn a_session_is_its_clients_alone_where_that_is_validated() {
    in_namespace(|| async {
        let plan = plan();
        let mut rig = Rig::new(&plan);
        for protocol in [6, 17, 1] {
            let mut traffic = fuzz::Traffic::new(u64::from(protocol), &plan);
            let session = Session { client_mac: Some(SENDER), ..traffic.session(&rig, protocol) };
            rig.insert(&session);
            assert!(matches!(rig.run(&traffic.plain_v6(&session)), Outcome::Translated(_)));
            // One octet of six is enough.
            for octet in 0..6 {
                let mut other = SENDER;
                other.0[octet] ^= 1;
                rig.insert(&Session { client_mac: Some(other), ..session });
                assert_eq!(rig.run(&traffic.plain_v6(&session)), Outcome::Left(Reason::OtherSender));
                assert!(
                    matches!(rig.run(&traffic.plain_v4(&session)), Outcome::Translated(_)),
                    "answers are the client's"
                );
            }
            rig.insert(&Session { client_mac: None, ..session });
            assert!(matches!(rig.run(&traffic.plain_v6(&session)), Outcome::Translated(_)));
        }
    });
}
