//! The appliance: its disk image in QEMU, from the firmware on. Most cases need no root: nothing is plugged into its networks but other ends of cables.
mod agent;
mod console;
mod first_boot;
mod hardware;
mod iso;
mod network;
mod pictures;
mod provider;
mod terminal;
mod time;
mod unit;
mod update;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

pub use unit::Unit;

use crate::program;
use crate::runner::obstacle_to_namespaces;
use crate::world::World;

/// What a case does.
pub type Body = Box<dyn Fn(&mut Unit) -> Result<()> + Send>;

/// A test: a sentence, and what it does with a machine of its own.
pub struct Case {
    /// The sentence.
    pub name: String,
    /// The rest.
    pub body: Body,
    /// It is plugged into a network of namespaces, which needs root and their programs.
    pub in_network: bool,
}

impl Case {
    fn new(name: impl Into<String>, body: impl Fn(&mut Unit) -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), body: Box::new(body), in_network: false }
    }

    /// As `new`, with real hosts at the other ends of its cards.
    fn in_network(name: impl Into<String>, body: impl Fn(&mut Unit) -> Result<()> + Send + 'static) -> Self {
        Self { in_network: true, ..Self::new(name, body) }
    }
}

/// Runs all cases, as the test binary's `main`.
pub fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each machine takes a core for itself.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let obstacle = obstacle();
    let without_network = obstacle.clone().or_else(|| obstacle_to_namespaces(&[]));
    if without_network.is_none()
        && let Err(error) = World::sweep()
    {
        eprintln!("remains of an earlier run stay: {error:#}");
    }
    let required = std::env::var_os("LAB_REQUIRED").is_some_and(|value| value == "1");
    let obstacle = |case: &Case| if case.in_network { without_network.clone() } else { obstacle.clone() };
    let trials = cases().into_iter().map(|case| match obstacle(&case) {
        None => Trial::test(case.name.clone(), move || run(&case)),
        Some(obstacle) if required => Trial::test(case.name, move || Err(Failed::from(obstacle))),
        Some(obstacle) => Trial::ignorable_test(case.name, move || Ok(Completion::ignored_with(obstacle))),
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn cases() -> Vec<Case> {
    let mut cases = hardware::cases();
    cases.extend(first_boot::cases());
    cases.extend(time::cases());
    cases.extend(update::cases());
    cases.extend(pictures::cases());
    if std::env::var_os("LAB_MATRIX").is_some() {
        cases.extend(hardware::matrix());
        cases.extend(update::power_cuts());
    }
    cases
}

fn obstacle() -> Option<String> {
    if !program::exists("qemu-system-x86_64") {
        return Some("not installed: qemu-system-x86_64; `cargo xtask test` installs it".to_owned());
    }
    unit::image("raw").err().map(|error| format!("{error:#}"))
}

fn run(case: &Case) -> Result<(), Failed> {
    let begin = Instant::now();
    let mut unit = Unit::new(&case.name).map_err(|error| Failed::from(format!("{error:#}")))?;
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.body)(&mut unit)));
    let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("the case panicked")));
    let folder = unit.folder().to_owned();
    match outcome {
        Ok(()) => {
            eprintln!("{:>6.1} s  {}", begin.elapsed().as_secs_f32(), case.name);
            drop(unit);
            if std::env::var_os("LAB_KEEP").is_none() {
                let _ = fs::remove_dir_all(folder);
            }
            Ok(())
        }
        Err(error) => {
            unit.leave_artefacts();
            Err(Failed::from(format!("{error:#}\nartefacts: {}", folder.display())))
        }
    }
}
