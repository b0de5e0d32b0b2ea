//! Hooks on interfaces, beside other people's programs, and what the next process finds.
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::fastpath::{Usage, hook::Hook};
use crate::testing::{attempt, in_namespace, skip, wire};

/// A BPF file system of the test's own.
struct BpfFs(PathBuf);

impl BpfFs {
    fn mount() -> Option<Self> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("sixgate-bpf-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (mounted, text) = attempt(&format!("mount -t bpf bpf {}", folder.display()));
        if !mounted {
            skip(&format!("no BPF file system: {text}"));
            return None;
        }
        Some(Self(folder))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        attempt(&format!("umount {}", self.0.display()));
        let _ = fs::remove_dir(&self.0);
    }
}

fn a_session() -> Session {
    Session {
        protocol: 17,
        client: ("2001:db8:1::2".parse().unwrap(), 1000),
        client_mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
        server_v6: "64:ff9b::1.2.3.4".parse().unwrap(),
        mapped: ("198.51.100.1".parse().unwrap(), 40_000),
        server: ("1.2.3.4".parse().unwrap(), 53),
        lan: 1,
        uplink: 2,
    }
}

#[test]
fn the_next_process_adopts_sessions_counters_and_hooks() {
    in_namespace(|| async {
        let Some(bpffs) = BpfFs::mount() else { return };
        let [near, _] = wire(["near0", "far0"]);
        let interfaces = [(near, "near0".to_owned())];
        let session = a_session();
        let mut first = FastPath::open(&bpffs.0, 100).unwrap();
        assert!(first.is_pinned());
        assert!(first.attach(&interfaces).is_empty());
        first.configure(&Settings { epoch: 7, ..Settings::default() }).unwrap();
        first.insert(&session, 7, 5, 0).unwrap();
        drop(first);

        let mut second = FastPath::open(&bpffs.0, 200).unwrap();
        assert_eq!(
            (second.epoch_and_rules().0, second.capacity()),
            (7, 100),
            "adopted maps are as large as they were made"
        );
        let usage = Usage { last_used: 5, ..Usage::default() };
        assert_eq!(second.sessions(), [(session, [usage; 2], 7)]);
        assert!(second.attach(&interfaces).is_empty());
        if second.hook() == Some(Hook::Tcx) {
            let pinned = fs::read_dir(second.pins.as_ref().unwrap().map("")).unwrap().count();
            assert_eq!(pinned, 6, "five maps and a hook");
        }
        assert_eq!(second.remove(&session.key_v4()).unwrap()[1].last_used, 5);
        assert!(second.sessions().is_empty());
        second.end();
        assert_eq!(fs::read_dir(bpffs.0.join("sixgate")).unwrap().count(), 0);
        let third = FastPath::open(&bpffs.0, 200).unwrap();
        assert_eq!((third.epoch_and_rules().0, third.capacity()), (0, 200), "nothing was left");
    });
}

#[test]
fn an_interface_that_comes_again_is_attached_again() {
    in_namespace(|| async {
        let Some(bpffs) = BpfFs::mount() else { return };
        let mut fast_path = FastPath::open(&bpffs.0, 10).unwrap();
        let [first, _] = wire(["near0", "far0"]);
        assert!(fast_path.attach(&[(first, "near0".to_owned())]).is_empty());
        run("ip link delete near0");
        let failed = fast_path.attach(&[(first, "near0".to_owned()), (9999, "missing0".to_owned())]);
        assert_eq!(failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["missing0"]);
        run(&format!("ip link add near0 index {first} type veth peer name far0"));
        drop(fast_path);
        // The pin names a hook whose interface is gone, and another interface has its number.
        let mut fast_path = FastPath::open(&bpffs.0, 10).unwrap();
        let failed = fast_path.attach(&[(first, "near0".to_owned())]);
        assert!(failed.is_empty(), "{failed:?}");
        fast_path.end();
    });
}

#[test]
fn a_filter_of_clsact_is_replaced_and_removed_and_others_stay() {
    in_namespace(|| async {
        let [near, _] = wire(["near0", "far0"]);
        let interfaces = [(near, "near0".to_owned())];
        run("tc qdisc add dev near0 clsact");
        let theirs = Command::new("tc")
            .args("filter add dev near0 ingress bpf direct-action bytecode".split(' '))
            .arg("1,6 0 0 4294967295,")
            .status();
        assert!(theirs.unwrap().success());
        let filters =
            || run("tc filter show dev near0 ingress").lines().filter(|line| line.contains("sixgate")).count();
        for _ in 0..2 {
            let mut fast_path = FastPath::open(Path::new("/nowhere"), 10).unwrap();
            fast_path.hooks.wanted = Some(Hook::Clsact);
            assert!(fast_path.attach(&interfaces).is_empty());
            assert_eq!((fast_path.hook(), filters()), (Some(Hook::Clsact), 1));
        }
        assert_eq!(filters(), 1, "it outlives the process");
        let mut last = FastPath::open(Path::new("/nowhere"), 10).unwrap();
        last.hooks.wanted = Some(Hook::Clsact);
        assert!(last.attach(&interfaces).is_empty());
        last.end();
        assert_eq!(filters(), 0);
        assert!(run("tc filter show dev near0 ingress").contains("bytecode"), "theirs stays");
    });
}

#[test]
fn programs_of_others_on_the_same_hook_see_what_is_left_alone() {
    if Hook::best() != Hook::Tcx {
        // On clsact two of ours are one and the same; the test of clsact has somebody else's there.
        return;
    }
    in_namespace(|| async {
        let [near, _] = wire(["near0", "far0"]);
        run("ip address add 192.0.2.1/24 dev far0");
        let mut programs = [1, 2].map(|_| FastPath::open(Path::new("/nowhere"), 10).unwrap());
        for program in &mut programs {
            assert!(program.attach(&[(near, "near0".to_owned())]).is_empty());
        }
        let socket = std::net::UdpSocket::bind("192.0.2.1:4000").unwrap();
        let text = run("ip -o link show dev near0");
        let mac = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
        run(&format!("ip neighbour replace 192.0.2.2 lladdr {mac} dev far0"));
        socket.send_to(b"hello", "192.0.2.2:53").unwrap();
        let seen = |program: &FastPath| program.counters().reasons[Reason::NoSession as usize];
        testing::wait_for("the packet in both", || programs.iter().all(|one| seen(one) == 1).then_some(()));
    });
}

#[test]
fn a_full_map_says_so_and_keeps_what_it_has() {
    in_namespace(|| async {
        let mut fast_path = FastPath::open(Path::new("/nowhere"), 3).unwrap();
        let mut session = a_session();
        let mut full = 0;
        for port in 0..10 {
            session.client.1 = port;
            session.mapped.1 = 40_000 + port;
            match fast_path.insert(&session, 1, 0, 0) {
                Ok(()) => {}
                Err(crate::fastpath::InsertError::Full) => full += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!((full, fast_path.sessions().len()), (7, 3));
        assert_eq!(fast_path.remove_orphans(), 0, "no direction is there alone");
    });
}
