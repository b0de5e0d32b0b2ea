//! What can be done from the console: the menu, the questions before it, and what is typed for it.
use clap::ValueEnum as _;

use crate::control::{Capture, MachineAction, Request, Service};

/// How long a configuration is tried when it is applied from the console, in seconds.
pub(super) const TRIAL: u64 = 60;
/// A capture from the console ends after so many seconds and packets.
const CAPTURE: (u64, u64) = (300, 100_000);
/// What is typed is no longer than this.
const LONGEST: usize = 200;

/// Something that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Tell the password, before anything else.
    Unlock,
    /// Send echo requests.
    Ping,
    /// Find the way to a host.
    Trace,
    /// Ask for a name.
    Resolve,
    /// Ask for a name without synthesis.
    ResolvePlain,
    /// Capture packets.
    Capture,
    /// Tell what becomes of a conversation.
    Why,
    /// Edit the configuration.
    Edit,
    /// Edit the configuration with the entry that admits what was refused.
    Propose,
    /// Keep what is on trial.
    Confirm,
    /// Go back to an earlier configuration.
    Revert,
    /// Read the configuration file again.
    Reload,
    /// Have the resolver forget.
    Flush,
    /// Restart the daemon.
    Restart,
    /// Restart one service.
    RestartService,
    /// Something with the machine.
    Machine(MachineAction),
    /// Power off.
    PowerOff,
}

impl Act {
    /// The menu, in this order, with the key of each.
    pub(super) const ALL: [(Self, char, &'static str); 19] = [
        (Self::Ping, '1', "Ping a host"),
        (Self::Trace, '2', "Trace the way to a host"),
        (Self::Resolve, '3', "Resolve a name as hosts do"),
        (Self::ResolvePlain, '4', "Resolve a name without synthesis"),
        (Self::Capture, '5', "Capture packets"),
        (Self::Why, '6', "Explain what becomes of a conversation"),
        (Self::Edit, 'e', "Edit the configuration"),
        (Self::Propose, 'P', "Propose an entry that admits a denial"),
        (Self::Confirm, 'c', "Keep the configuration on trial"),
        (Self::Revert, 'v', "Go back to an earlier configuration"),
        (Self::Reload, 'L', "Read the configuration file again"),
        (Self::Flush, 'F', "Have the resolver forget names"),
        (Self::Restart, 'r', "Restart the daemon"),
        (Self::RestartService, 'R', "Restart one service"),
        (Self::Machine(MachineAction::Reboot), 'B', "Start the machine anew"),
        (Self::Machine(MachineAction::Update), 'U', "Update from an attached drive"),
        (Self::Machine(MachineAction::Rollback), 'Z', "Go back to the system before the update"),
        (Self::Machine(MachineAction::FactoryReset), 'X', "Reset everything"),
        (Self::PowerOff, 'p', "Power off"),
    ];

    /// What has to be typed for it; nothing where a yes is enough.
    pub(super) fn prompt(self, console: bool) -> Option<Prompt> {
        let (title, hint) = match self {
            Self::Unlock => ("Password", "The console asks for a password before it changes anything."),
            Self::Ping => ("Ping", "An address, a VM, or a name. A link-local address with its link: fe80::1%eth0"),
            Self::Trace => ("Trace", "An address, a VM, or a name."),
            Self::Resolve => ("Resolve", "A name. The router's resolver is asked as hosts on a LAN ask it."),
            Self::ResolvePlain => ("Resolve without synthesis", "A name. Addresses as they are in the DNS."),
            Self::Capture if console => {
                ("Capture", "A VM, an address, a prefix, or % and an interface: %eth1. Nothing for all.")
            }
            Self::Capture => (
                "Capture",
                "A VM, an address, a prefix, or % and an interface: %eth1; - for all. Then, where it is to be kept, a file.",
            ),
            Self::Why => ("Why", "From whom, to whom, about what: vm1 2001:db8::5 tcp/443"),
            Self::Revert => (
                "Go back",
                "The number of an earlier configuration; nothing for the one before. It is on trial for 60 s.",
            ),
            Self::Propose => (
                "Propose an entry",
                "The number of a denial, which the firewall's page shows. The editor opens with the entry.",
            ),
            Self::Flush => ("Forget", "A name and all below it; nothing for all names."),
            Self::RestartService => (
                "Restart one service",
                "uplink, ra, dns64 or nat64. Leases are confirmed, hosts told anew, the cache is forgotten, sessions go on.",
            ),
            Self::Edit | Self::Confirm | Self::Reload | Self::Restart | Self::Machine(_) | Self::PowerOff => {
                return None;
            }
        };
        Some(Prompt { act: self, title, hint, text: String::new() })
    }

    /// What is asked of the daemon once it is confirmed.
    pub(super) fn request(self, typed: &str) -> Result<Wanted, String> {
        let typed = typed.trim();
        let something =
            |what: &str| if typed.is_empty() { Err(format!("{what} is needed")) } else { Ok(typed.to_owned()) };
        let look = |request| Ok(Wanted::Look { request, file: None });
        match self {
            Self::Unlock => Ok(Wanted::Send(Request::Unlock { password: typed.to_owned() })),
            Self::Ping => look(Request::Ping { to: something("a host")?, count: 5 }),
            Self::Trace => look(Request::Trace { to: something("a host")? }),
            Self::Resolve => look(Request::Resolve { name: something("a name")?, synthesis: true }),
            Self::ResolvePlain => look(Request::Resolve { name: something("a name")?, synthesis: false }),
            Self::Capture => {
                let (whose, file) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
                let (seconds, packets) = CAPTURE;
                let mut capture = Capture { seconds: Some(seconds), packets: Some(packets), ..Capture::default() };
                match whose.strip_prefix('%') {
                    Some(interface) => capture.interface = Some(interface.to_owned()),
                    None if whose.is_empty() || whose == "-" => {}
                    None => capture.of = Some(whose.to_owned()),
                }
                let file = Some(file.trim().to_owned()).filter(|file| !file.is_empty());
                Ok(Wanted::Look { request: Request::Capture(capture), file })
            }
            Self::Why => {
                let words: Vec<&str> = typed.split_whitespace().collect();
                let [from, to, service] = words[..] else { return Err("three words are needed".to_owned()) };
                let (from, to, service) = (from.to_owned(), to.to_owned(), service.to_owned());
                look(Request::Why { from, to, service })
            }
            Self::Edit => Ok(Wanted::Send(Request::Configuration)),
            Self::Propose => {
                let denial = typed.parse().map_err(|_| format!("\"{typed}\" is no number"))?;
                Ok(Wanted::Send(Request::Propose { denial }))
            }
            Self::Confirm => Ok(Wanted::Send(Request::Confirm)),
            Self::Revert => {
                let to = match typed {
                    "" => None,
                    number => Some(number.parse().map_err(|_| format!("\"{number}\" is no number"))?),
                };
                // The end of a trial is not tried.
                let confirm = to.map(|_| TRIAL);
                Ok(Wanted::Send(Request::Revert { to, confirm, session: None }))
            }
            Self::Reload => Ok(Wanted::Send(Request::Reload)),
            Self::Flush => {
                let name = Some(typed.to_owned()).filter(|name| !name.is_empty());
                Ok(Wanted::Send(Request::FlushDns { name }))
            }
            Self::Restart => Ok(Wanted::Send(Request::Restart)),
            Self::RestartService => {
                let service = Service::from_str(typed, true)
                    .map_err(|_| format!("\"{typed}\" is no service: uplink, ra, dns64 or nat64"))?;
                Ok(Wanted::Send(Request::RestartService(service)))
            }
            Self::Machine(action) => Ok(Wanted::Send(Request::Machine(action))),
            Self::PowerOff => Ok(Wanted::Send(Request::PowerOff)),
        }
    }
}

/// What an action comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A request whose answer is a yes or a no.
    Send(Request),
    /// One that is looked at while it goes on; a capture may be kept in a file.
    Look {
        /// The request.
        request: Request,
        /// The file.
        file: Option<String>,
    },
}

/// Something that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    /// For what.
    pub(super) act: Act,
    /// The box's title.
    pub(super) title: &'static str,
    /// What is expected.
    pub(super) hint: &'static str,
    /// What was typed.
    pub(super) text: String,
}

impl Prompt {
    /// Takes a letter.
    pub(super) fn push(&mut self, letter: char) {
        if self.text.len() < LONGEST && !letter.is_control() {
            self.text.push(letter);
        }
    }
}

/// The question before a request: title and text.
pub(super) fn question(request: &Request, host: &str) -> (&'static str, String) {
    match request {
        Request::PowerOff => (
            " Power off ",
            format!("Power {host} off? Everything behind it loses its network until the machine is started again."),
        ),
        Request::Machine(MachineAction::FactoryReset) => (
            " Reset ",
            format!("Forget the configuration and all state of {host}, and start the machine anew as after its first boot?"),
        ),
        Request::Machine(MachineAction::Update) => (
            " Update ",
            "Install the update on the attached drive and start the machine anew? It goes back by itself if that does not prove healthy."
                .to_owned(),
        ),
        Request::Machine(MachineAction::Rollback) => {
            (" Go back ", "Start the machine anew with the system that it ran before the last update?".to_owned())
        }
        Request::Machine(MachineAction::Reboot) => (" Restart ", "Start the machine anew?".to_owned()),
        Request::Apply { confirm: Some(seconds), .. } => (
            " Apply ",
            format!("Put this configuration into force? It goes by itself after {seconds} s unless you keep it."),
        ),
        Request::Apply { .. } => (" Apply ", "Put this configuration into force and keep it?".to_owned()),
        Request::Confirm => (" Keep ", "Keep the configuration that is on trial?".to_owned()),
        Request::Revert { .. } => (" Go back ", "Go back to the earlier configuration?".to_owned()),
        Request::Reload => (" Reload ", "Read the configuration file again and put it into force?".to_owned()),
        Request::RestartService(_) => (" Restart ", "Have this service start anew?".to_owned()),
        Request::Restart
        | Request::Configuration
        | Request::Unlock { .. }
        | Request::Stop
        | Request::Status
        | Request::Sessions { .. }
        | Request::History
        | Request::Why { .. }
        | Request::Log { .. }
        | Request::Resolve { .. }
        | Request::Ping { .. }
        | Request::Trace { .. }
        | Request::Capture(_)
        | Request::Backup
        | Request::Restore { .. }
        | Request::Denials
        | Request::Propose { .. }
        | Request::FlushDns { .. } => (
            " Restart ",
            "Restart the daemon? Addresses, routes and the firewall stay as they are, NAT64 sessions go on."
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_a_key_of_its_own() {
        let mut keys: Vec<char> = Act::ALL.iter().map(|(_, key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), Act::ALL.len());
    }

    #[test]
    fn what_is_typed_becomes_a_request() {
        let look = |act: Act, text: &str| match act.request(text) {
            Ok(Wanted::Look { request, file }) => Some((request, file)),
            Ok(Wanted::Send(_)) | Err(_) => None,
        };
        assert_eq!(look(Act::Ping, " vm1 "), Some((Request::Ping { to: "vm1".to_owned(), count: 5 }, None)));
        assert_eq!(look(Act::Ping, ""), None);
        assert_eq!(look(Act::Why, "vm1 vm2"), None);
        let captured = |text: &str| match look(Act::Capture, text) {
            Some((Request::Capture(capture), file)) => (capture.of, capture.interface, file),
            other => panic!("{other:?}"),
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(captured(""), (None, None, None));
        assert_eq!(captured("- /tmp/all.pcapng"), (None, None, some("/tmp/all.pcapng")));
        assert_eq!(captured("%eth1"), (None, some("eth1"), None));
        assert_eq!(captured("vm1"), (some("vm1"), None, None));
    }

    #[test]
    fn a_service_is_restarted_by_its_name_and_no_other_word() {
        let restart = |service| Ok(Wanted::Send(Request::RestartService(service)));
        assert_eq!(Act::RestartService.request(" DNS64"), restart(Service::Dns64));
        assert_eq!(Act::RestartService.request("nat64"), restart(Service::Nat64));
        assert!(Act::RestartService.request("all").is_err());
    }

    #[test]
    fn going_back_further_is_tried_and_the_end_of_a_trial_is_not() {
        let revert = |to, confirm| Ok(Wanted::Send(Request::Revert { to, confirm, session: None }));
        assert_eq!(Act::Revert.request("12"), revert(Some(12), Some(TRIAL)));
        assert_eq!(Act::Revert.request(""), revert(None, None));
        assert!(Act::Revert.request("x").is_err());
    }
}
