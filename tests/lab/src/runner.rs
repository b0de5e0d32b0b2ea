//! From the table of scenarios to trials: what cannot run is counted as ignored and says why.
use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::lab::Lab;
use crate::network::Network;
use crate::program;
use crate::router::{self, BackEnd};
use crate::scenario::{DOCKER, SCENARIOS, Scenario, Start};
use crate::world::World;

/// Programs that scenarios use on every back end.
const PROGRAMS: &[&str] = &[
    "ip",
    "nft",
    "curl",
    "dig",
    "ping",
    "rdisc6",
    "tcpdump",
    "timeout",
    "dhcpd",
    "radvd",
    "dhcpcd",
    "networkctl",
    "named",
    "python3",
    "jsonschema",
    "promtool",
    "openssl",
    "kdig",
];

/// How many scenarios on namespaces run at a time, for each core.
const SCENARIOS_PER_CORE: usize = 3;

/// A machine that serves several scenarios, and whoever uses it now.
type SharedLab = Arc<Mutex<Option<Lab>>>;

/// Programs that scenarios with Docker use as well.
const DOCKER_PROGRAMS: &[&str] = &["dockerd", "docker", "containerd", "runc", "iptables", "nsenter", "unshare", "tar"];

/// Runs all scenarios of a back end, as the test binary's `main`.
pub fn main(back_end: BackEnd) -> ExitCode {
    run(&[back_end], SCENARIOS, SCENARIOS_PER_CORE, &[])
}

/// Runs the scenarios with Docker on both back ends, as the test binary's `main`.
pub fn docker() -> ExitCode {
    run(&[BackEnd::Namespace, BackEnd::Machine], DOCKER, 1, DOCKER_PROGRAMS)
}

fn run(back_ends: &[BackEnd], scenarios: &'static [Scenario], per_core: usize, programs: &[&str]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if back_ends.contains(&BackEnd::Namespace) && arguments.test_threads.is_none() {
        // Scenarios spend their time waiting for the timers of Neighbor Discovery, not computing.
        arguments.test_threads = thread::available_parallelism().ok().map(|cores| cores.get() * per_core);
    }
    let required = std::env::var_os("LAB_REQUIRED").is_some_and(|value| value == "1");
    let mut machines: BTreeMap<Network, SharedLab> = BTreeMap::new();
    let mut trials = Vec::new();
    let mut swept = false;
    for &back_end in back_ends {
        let obstacle = obstacle(back_end, programs);
        if let Some(obstacle) = &obstacle {
            eprintln!("{}: {obstacle}", if required { "cannot run" } else { "skipped" });
        } else if !std::mem::replace(&mut swept, true)
            && let Err(error) = World::sweep()
        {
            eprintln!("remains of an earlier run stay: {error:#}");
        }
        for scenario in scenarios.iter().filter(|scenario| scenario.back_ends.contains(&back_end)) {
            let shared = Arc::clone(machines.entry(scenario.network).or_default());
            let name = match back_end {
                BackEnd::Machine if back_ends.len() > 1 => format!("{}_of_the_image", scenario.name),
                BackEnd::Machine | BackEnd::Namespace => scenario.name.to_owned(),
            };
            let trial = match obstacle.clone() {
                None => Trial::test(name, move || match back_end {
                    BackEnd::Namespace => in_namespaces(scenario),
                    BackEnd::Machine => on_machine(scenario, &shared),
                }),
                Some(obstacle) if required => Trial::test(name, move || Err(Failed::from(obstacle))),
                Some(obstacle) => Trial::ignorable_test(name, move || Ok(Completion::ignored_with(obstacle))),
            };
            trials.push(trial);
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Machines end before the process does, so that their namespaces go with them.
    for shared in machines.values() {
        shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
    conclusion.exit_code()
}

/// Why no scenario can run here, with the mend.
fn obstacle(back_end: BackEnd, further: &[&str]) -> Option<String> {
    let obstacle = obstacle_to_namespaces(further);
    if obstacle.is_some() {
        return obstacle;
    }
    match back_end {
        BackEnd::Namespace => router::binary().err().map(|error| format!("{error:#}")),
        BackEnd::Machine if !program::exists("qemu-system-x86_64") => {
            Some("not installed: qemu-system-x86_64; `cargo xtask test` installs it".to_owned())
        }
        BackEnd::Machine => router::boot().err().map(|error| format!("{error:#}")),
    }
}

/// Why there can be no network of namespaces with real programs inside, further ones among them.
pub(crate) fn obstacle_to_namespaces(further: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root: run the tests as root or with sudo".to_owned());
    }
    let missing: Vec<&str> = PROGRAMS.iter().chain(further).copied().filter(|name| !program::exists(name)).collect();
    (!missing.is_empty()).then(|| format!("not installed: {}; `cargo xtask test` installs them", missing.join(", ")))
}

fn in_namespaces(scenario: &Scenario) -> Result<(), Failed> {
    let begin = Instant::now();
    let mut lab = Lab::build(scenario.name, scenario.network, BackEnd::Namespace).map_err(|error| failed(&error))?;
    let outcome = attempt(scenario, &mut lab, true);
    conclude(scenario, lab, outcome, begin)
}

/// One machine per network serves its scenarios one after the other; a failure or a power-off ends it.
fn on_machine(scenario: &Scenario, shared: &SharedLab) -> Result<(), Failed> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let begin = Instant::now();
    let (mut lab, fresh) = match shared.take() {
        Some(lab) => (lab, false),
        None => (
            Lab::build(&format!("machine-{}", scenario.name), scenario.network, BackEnd::Machine)
                .map_err(|error| failed(&error))?,
            true,
        ),
    };
    let outcome = attempt(scenario, &mut lab, fresh);
    if outcome.is_ok() && scenario.start == Start::Running {
        *shared = Some(lab);
        report(scenario, begin);
        return Ok(());
    }
    conclude(scenario, lab, outcome, begin)
}

fn attempt(scenario: &Scenario, lab: &mut Lab, fresh: bool) -> Result<()> {
    let body = || match scenario.start {
        Start::Running | Start::LastOfMachine if fresh => lab.start().and_then(|()| (scenario.body)(lab)),
        Start::Running | Start::LastOfMachine | Start::ByBody => (scenario.body)(lab),
    };
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(anyhow!("panic: {}", message(panic.as_ref()))))
}

/// A failure leaves artefacts, a success leaves nothing.
fn conclude(scenario: &Scenario, mut lab: Lab, outcome: Result<()>, begin: Instant) -> Result<(), Failed> {
    let folder = lab.world.folder().to_owned();
    let outcome = outcome.map_err(|error| {
        lab.router.leave_artefacts(&folder);
        Failed::from(format!("{error:#}\nartefacts: {}", folder.display()))
    });
    drop(lab);
    if outcome.is_ok() {
        report(scenario, begin);
        if std::env::var_os("LAB_KEEP").is_none() {
            // What stays is in the way of nobody: the next run of the scenario removes it.
            let _ = fs::remove_dir_all(&folder);
        }
    }
    outcome
}

fn report(scenario: &Scenario, begin: Instant) {
    eprintln!("{:>6.1} s  {}", begin.elapsed().as_secs_f32(), scenario.name);
}

fn failed(error: &anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
