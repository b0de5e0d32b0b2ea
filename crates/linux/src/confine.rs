//! Taking away what a process or a thread does not need: capabilities, new privileges, system calls.
use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What the kernel does with a system call that a filter refuses: the caller sees EPERM.
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ADMIT: u32 = libc::SECCOMP_RET_ALLOW;

/// AUDIT_ARCH of linux/audit.h; a filter sees the calls of other architectures under other numbers.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
/// System calls of the x32 ABI have this bit.
const X32: u32 = 0x4000_0000;

/// What the router needs to be one: addresses, routes, nftables, TUN and sysctls; raw and packet sockets; port 53; the eBPF
/// program; the clock.
pub const ROUTER: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_TIME);
/// What the guest agent needs: to freeze and to trim a file system.
pub const AGENT: CapabilitySet = CapabilitySet::SYS_ADMIN;
/// Nothing.
pub const NONE: CapabilitySet = CapabilitySet::empty();

/// No part of a running router starts programs, mounts, loads modules or kernels, looks into other processes, or changes
/// namespaces.
const NEVER: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_personality,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// What a thread needs that only reads datagrams from sockets it was given, thinks, and answers: memory, locks, time, and
/// those sockets.
const DATAGRAMS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Keeps these capabilities for the calling thread and all it will start, and gives up the others for good.
///
/// # Errors
/// The kernel refuses, which it does not for a thread that has them.
pub fn keep_capabilities(kept: CapabilitySet) -> io::Result<()> {
    for capability in CapabilitySet::all().difference(kept).iter() {
        match remove_capability_from_bounding_set(capability) {
            // Capabilities that this kernel does not know are nobody's.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop_to(kept)
}

/// Keeps these capabilities for the calling thread alone.
///
/// # Errors
/// As for [`keep_capabilities`].
pub fn drop_to(kept: CapabilitySet) -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    let kept = held.permitted.intersection(kept);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

/// Refuses, for the calling thread and all it will start, what no part of a running router does.
///
/// # Errors
/// The kernel has no filters.
pub fn refuse_what_nobody_needs() -> io::Result<()> {
    install(&program(NEVER, REFUSE, ADMIT))
}

/// Leaves the calling thread nothing but reading and answering on the descriptors that it was given. No capability stays.
///
/// # Errors
/// The kernel has no filters.
pub fn only_datagrams() -> io::Result<()> {
    drop_to(NONE)?;
    install(&program(DATAGRAMS, ADMIT, REFUSE))
}

/// A classic BPF program over `struct seccomp_data`: the verdict for the calls that are named, and for all others.
fn program(named: &[i64], verdict: u32, others: u32) -> Vec<libc::sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut steps = vec![
        step(LOAD, ARCH, 0, 0),
        step(EQUAL, ARCHITECTURE, 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(LOAD, NUMBER, 0, 0),
        step(AT_LEAST, X32, 0, 1),
        step(RETURN, REFUSE, 0, 0),
    ];
    for number in named {
        // System calls have small numbers.
        let number = u32::try_from(*number).unwrap_or(u32::MAX);
        steps.extend([step(EQUAL, number, 0, 1), step(RETURN, verdict, 0, 0)]);
    }
    steps.push(step(RETURN, others, 0, 0));
    steps
}

fn install(steps: &[libc::sock_filter]) -> io::Result<()> {
    set_no_new_privs(true)?;
    let length = u16::try_from(steps.len()).map_err(|_| io::Error::other("the filter is too long"))?;
    let program = libc::sock_fprog { len: length, filter: steps.as_ptr().cast_mut() };
    // SAFETY: the program and its steps live through the call; the kernel copies them and writes to neither.
    let outcome = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn a_confined_thread_answers_on_its_socket_and_opens_nothing() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"question", socket.local_addr().unwrap()).unwrap();
        let (opened, connected, heard) = thread::spawn(move || {
            only_datagrams().unwrap();
            let mut buffer = [0; 64];
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], peer).unwrap();
            let opened = std::fs::read("/etc/hostname").map_err(|error| error.kind());
            let connected = UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|error| error.kind());
            (opened, connected, vec![0_u8; 10 << 20].len())
        })
        .join()
        .unwrap();
        assert_eq!(opened, Err(io::ErrorKind::PermissionDenied));
        assert_eq!(connected, Err(io::ErrorKind::PermissionDenied));
        assert_eq!(heard, 10 << 20, "memory is there");
        let mut buffer = [0; 64];
        client.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 8);
        // Others are as they were.
        assert!(UdpSocket::bind("127.0.0.1:0").is_ok());
    }

    #[test]
    fn what_nobody_needs_is_refused_to_a_thread_and_its_children_threads() {
        let started = thread::spawn(|| {
            refuse_what_nobody_needs().unwrap();
            thread::spawn(|| Command::new("true").status().map_err(|error| error.kind())).join().unwrap()
        })
        .join()
        .unwrap();
        assert_eq!(started.err(), Some(io::ErrorKind::PermissionDenied));
        assert!(Command::new("true").status().unwrap().success());
    }

    #[test]
    fn capabilities_that_were_given_up_are_gone_for_the_thread() {
        let held = thread::spawn(|| {
            drop_to(CapabilitySet::NET_RAW).unwrap();
            rustix::thread::capabilities(None).unwrap().effective
        })
        .join()
        .unwrap();
        assert!(CapabilitySet::NET_RAW.contains(held), "{held:?}");
    }
}
