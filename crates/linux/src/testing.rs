//! For tests: a network namespace of one's own, and what `ip`, `nft` and the like say in it.
use std::future::Future;
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No test in here may take longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `test` on a thread in a fresh network namespace with a tokio runtime of its own. The namespace goes with the
/// thread. Without root the test is skipped with a printed reason, or fails where `LAB_REQUIRED=1`.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::Builder::new().name(std::thread::current().name().unwrap_or("test").to_owned());
    let body = move || {
        // SAFETY: unshare takes flags only; it affects this thread, which ends with the test.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return skip(&format!("no network namespace: {}", std::io::Error::last_os_error()));
        }
        run("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(DEADLINE, test()).await.expect("the test ends in time") });
    };
    if let Err(panic) = thread.spawn(body).unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// Says why a test cannot run here; fails where `LAB_REQUIRED=1`.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("LAB_REQUIRED").is_none_or(|value| value != "1"), "cannot run, but is required: {reason}");
    eprintln!("skipped: {reason}");
}

/// Runs a command in the calling thread's namespace and returns what it prints.
pub(crate) fn run(command: &str) -> String {
    let (done, text) = attempt(command);
    assert!(done, "{command}: {text}");
    text
}

/// Runs a command that may fail; says whether it succeeded, and what it printed on both streams.
pub(crate) fn attempt(command: &str) -> (bool, String) {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).stdin(Stdio::null()).output().expect("the command starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// A wire between two new interfaces, both up, each with a link-local address that can be used at once. Gives their
/// kernel interface indices.
pub(crate) fn wire(ends: [&str; 2]) -> [u32; 2] {
    let [near, far] = ends;
    run(&format!("ip link add {near} type veth peer name {far}"));
    for name in ends {
        crate::sysctl::write(&format!("net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
        run(&format!("ip link set {name} up"));
    }
    ends.map(|name| {
        link_local(name);
        let text = run(&format!("ip -o link show dev {name}"));
        text.split(':').next().unwrap().parse().unwrap()
    })
}

/// The interface's link-local address, once it is usable: the kernel makes it in the background.
pub(crate) fn link_local(name: &str) -> Ipv6Addr {
    wait_for("a link-local address", || {
        let text = run(&format!("ip -6 -o addr show dev {name} scope link"));
        let address = text.split_whitespace().nth(3).filter(|_| !text.contains("tentative"))?;
        address.split('/').next()?.parse().ok()
    })
}

/// The interface's hardware address.
pub(crate) fn mac(name: &str) -> sixgate_engine::facts::MacAddr {
    let text = run(&format!("ip -o link show dev {name}"));
    let address = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    address.parse().unwrap()
}

/// Looks again and again until there is something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE / 2;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a program at tc is told of a frame beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// The mark.
    pub(crate) mark: u32,
    /// The interface it came in by.
    pub(crate) link: u32,
    /// The payload of each segment; 0 where it is none of several.
    pub(crate) segment: u32,
}

/// What a program at tc makes of a frame (`BPF_PROG_TEST_RUN`): its verdict, the frame, the mark.
pub(crate) fn test_run(program: std::os::fd::RawFd, frame: &[u8], told: Told, flags: u32) -> (u32, Vec<u8>, u32) {
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        program: u32,
        verdict: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        context_size_in: u32,
        context_size_out: u32,
        context_in: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        padding: u32,
    }
    const PROG_TEST_RUN: libc::c_int = 10;
    // Words of struct __sk_buff: mark, ifindex, gso_size.
    const MARK: usize = 2;
    const LINK: usize = 10;
    const SEGMENT: usize = 44;
    let mut context = [0u32; 48];
    (context[MARK], context[LINK], context[SEGMENT]) = (told.mark, told.link, told.segment);
    let mut out = vec![0; frame.len() + 1024];
    let mut context_out = [0u32; 48];
    let mut attributes = Attributes {
        program: program.cast_unsigned(),
        size_in: u32::try_from(frame.len()).unwrap(),
        size_out: u32::try_from(out.len()).unwrap(),
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        context_size_in: 192,
        context_size_out: 192,
        context_in: context.as_ptr() as u64,
        context_out: context_out.as_mut_ptr() as u64,
        flags,
        ..Attributes::default()
    };
    // SAFETY: all buffers live until the call returns, and their lengths are given with them.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut attributes, size_of::<Attributes>()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    out.truncate(attributes.size_out as usize);
    (attributes.verdict, out, context_out[MARK])
}
