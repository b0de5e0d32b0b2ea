//! Packets and bytes of each session, each client and each VM.
use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::{HashMap, VecDeque};

use ipnet::Ipv6Net;

use super::keyed::Keyed;
use super::verdict::Direction;
use crate::plan::VmNets;
use crate::status::{self, Traffic};

/// Clients with an account of their own. What others send counts for their VM alone.
pub(super) const MAX_CLIENTS: usize = 4096;
/// Clients that the status names.
const SHOWN: usize = 16;

/// Which account a binding is charged to.
pub(super) type AccountIndex = u16;
/// From here on the number is that of a VM's account, and the last one is nobody's.
const FIRST_VM: AccountIndex = MAX_CLIENTS as AccountIndex;
const NOBODY: AccountIndex = AccountIndex::MAX;

/// Packets and bytes of a session one way, in half the room. What does not fit is carried over to where there is more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    packets: u32,
    bytes: u32,
}

impl Meter {
    /// Adds to it; what it held comes back if that is too much for it.
    pub(super) fn add(&mut self, wire: Traffic) -> Option<Traffic> {
        let sum = |held: u32, more: u64| u32::try_from(u64::from(held) + more).ok();
        if let (Some(packets), Some(bytes)) = (sum(self.packets, wire.packets), sum(self.bytes, wire.bytes)) {
            *self = Self { packets, bytes };
            return None;
        }
        let mut carried = self.traffic();
        carried.add(wire);
        *self = Self::default();
        Some(carried)
    }

    pub(super) fn traffic(self) -> Traffic {
        Traffic { packets: self.packets.into(), bytes: self.bytes.into() }
    }
}

/// A client's account, or a VM's.
#[derive(Clone, Copy, Debug)]
struct Account {
    address: Ipv6Addr,
    /// RFC 4787 REQ-2: the mapped address that the client has; unspecified before it had any.
    home: Ipv4Addr,
    vm: AccountIndex,
    /// Bindings that are charged to it; without any it may be closed.
    bindings: u32,
    /// Whether it is in the list of those that may be closed.
    is_idle: bool,
    traffic: [Traffic; 2],
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    clients: Vec<Account>,
    by_address: HashMap<Ipv6Addr, AccountIndex, Keyed>,
    /// Accounts without bindings, the longest idle first; those that have some again are passed over.
    idle: VecDeque<AccountIndex>,
    vms: Vec<(VmNets, [Traffic; 2])>,
}

impl Accounts {
    pub(super) fn new(keyed: Keyed, vms: &[VmNets]) -> Self {
        let mut accounts = Self {
            clients: Vec::new(),
            by_address: HashMap::with_hasher(keyed),
            idle: VecDeque::new(),
            vms: Vec::new(),
        };
        accounts.replace(vms);
        accounts
    }

    /// Takes over other VMs. Those that stay keep what they have; every binding is to be [opened](Self::open) anew.
    pub(super) fn replace(&mut self, vms: &[VmNets]) {
        let old = core::mem::take(&mut self.vms);
        let had =
            |vm: &VmNets| old.iter().find(|(other, _)| other.name == vm.name).map_or_else(Default::default, |it| it.1);
        self.vms = vms.iter().take(usize::from(NOBODY - FIRST_VM)).map(|vm| (vm.clone(), had(vm))).collect();
        self.idle.clear();
        for index in 0..self.clients.len() {
            let vm = self.vm_of(self.clients[index].address);
            let account = &mut self.clients[index];
            (account.vm, account.bindings, account.is_idle) = (vm, 0, true);
            self.idle.push_back(index as AccountIndex);
        }
    }

    /// The account for a binding of that client.
    pub(super) fn open(&mut self, address: Ipv6Addr) -> AccountIndex {
        if let Some(index) = self.by_address.get(&address).copied() {
            self.clients[usize::from(index)].bindings += 1;
            return index;
        }
        let vm = self.vm_of(address);
        let home = Ipv4Addr::UNSPECIFIED;
        let account = Account { address, home, vm, bindings: 1, is_idle: false, traffic: Default::default() };
        let index = if self.clients.len() < MAX_CLIENTS {
            self.clients.push(account);
            (self.clients.len() - 1) as AccountIndex
        } else {
            let Some(index) = self.close_one() else { return vm };
            self.clients[usize::from(index)] = account;
            index
        };
        self.by_address.insert(address, index);
        index
    }

    /// The mapped address that a client has or had lately.
    pub(super) fn home(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let index = *self.by_address.get(&address)?;
        Some(self.clients[usize::from(index)].home).filter(|home| !home.is_unspecified())
    }

    /// A client has a mapped address, unless it had one that is `kept`.
    pub(super) fn settle(&mut self, index: AccountIndex, address: Ipv4Addr, is_kept: impl Fn(Ipv4Addr) -> bool) {
        if let Some(account) = self.clients.get_mut(usize::from(index)).filter(|account| !is_kept(account.home)) {
            account.home = address;
        }
    }

    /// A binding is no longer there.
    pub(super) fn release(&mut self, index: AccountIndex) {
        let Some(account) = self.clients.get_mut(usize::from(index)) else { return };
        account.bindings = account.bindings.saturating_sub(1);
        if account.bindings == 0 && !account.is_idle {
            account.is_idle = true;
            self.idle.push_back(index);
        }
    }

    /// Charges an account, and that of the VM.
    pub(super) fn charge(&mut self, index: AccountIndex, direction: Direction, wire: Traffic) {
        let vm = match self.clients.get_mut(usize::from(index)) {
            Some(account) => {
                account.traffic[direction as usize].add(wire);
                account.vm
            }
            None => index,
        };
        if let Some((_, traffic)) = vm.checked_sub(FIRST_VM).and_then(|vm| self.vms.get_mut(usize::from(vm))) {
            traffic[direction as usize].add(wire);
        }
    }

    /// What each VM has sent and received.
    pub(super) fn vms(&self) -> Vec<status::Accounted> {
        let accounted = |(vm, traffic): &(VmNets, [Traffic; 2])| status::Accounted {
            name: vm.name.clone(),
            address: None,
            v6_to_v4: traffic[Direction::V6ToV4 as usize],
            v4_to_v6: traffic[Direction::V4ToV6 as usize],
        };
        self.vms.iter().map(accounted).collect()
    }

    /// The clients with the most bytes.
    pub(super) fn top(&self) -> Vec<status::Accounted> {
        let bytes = |account: &&Account| account.traffic[0].bytes + account.traffic[1].bytes;
        let mut top: Vec<&Account> = self.clients.iter().filter(|account| bytes(account) > 0).collect();
        if top.len() > SHOWN {
            top.select_nth_unstable_by_key(SHOWN, |account| core::cmp::Reverse(bytes(account)));
            top.truncate(SHOWN);
        }
        top.sort_by_key(|account| (core::cmp::Reverse(bytes(account)), account.address));
        let name = |account: &Account| {
            let vm = account.vm.checked_sub(FIRST_VM).and_then(|vm| self.vms.get(usize::from(vm)));
            vm.map(|(vm, _)| vm.name.clone()).unwrap_or_default()
        };
        let accounted = |account: &Account| status::Accounted {
            name: name(account),
            address: Some(account.address),
            v6_to_v4: account.traffic[Direction::V6ToV4 as usize],
            v4_to_v6: account.traffic[Direction::V4ToV6 as usize],
        };
        top.into_iter().map(accounted).collect()
    }

    /// Closes the account that has been idle for the longest time.
    fn close_one(&mut self) -> Option<AccountIndex> {
        while let Some(index) = self.idle.pop_front() {
            let account = &mut self.clients[usize::from(index)];
            account.is_idle = false;
            if account.bindings == 0 {
                self.by_address.remove(&account.address);
                return Some(index);
            }
        }
        None
    }

    /// The VM with the longest prefix that the address is in.
    fn vm_of(&self, address: Ipv6Addr) -> AccountIndex {
        let length = |vm: &VmNets| vm.nets.iter().filter(|net| net.contains(&address)).map(Ipv6Net::prefix_len).max();
        let longest = self.vms.iter().enumerate().filter_map(|(at, (vm, _))| Some((length(vm)?, at))).max();
        longest.map_or(NOBODY, |(_, at)| FIRST_VM + at as AccountIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str, nets: &[&str]) -> VmNets {
        VmNets { name: name.to_owned(), nets: nets.iter().map(|net| net.parse().unwrap()).collect() }
    }

    fn accounts() -> Accounts {
        Accounts::new(Keyed::new((1, 2)), &[vm("vm1", &["2001:db8:1::/64"]), vm("vm2", &["2001:db8:1:0:5::/80"])])
    }

    fn address(number: u32) -> Ipv6Addr {
        Ipv6Addr::from(0x2001_0db8_0001_0000_0000_0000_0000_0000 + u128::from(number))
    }

    const PACKET: Traffic = Traffic { packets: 1, bytes: 100 };

    #[test]
    fn a_meter_that_is_full_carries_over_and_loses_nothing() {
        let (mut meter, mut total) = (Meter::default(), 0);
        for _ in 0..3 {
            total += meter.add(Traffic { packets: 2, bytes: 3 << 30 }).map_or(0, |carried| carried.bytes);
        }
        assert_eq!(total + meter.traffic().bytes, 9 << 30);
    }

    #[test]
    fn clients_and_the_vm_of_the_longest_prefix_are_charged() {
        let mut accounts = accounts();
        let one = accounts.open(address(1));
        let container = accounts.open("2001:db8:1:0:5::1".parse().unwrap());
        let stranger = accounts.open("2001:db8:9::1".parse().unwrap());
        for index in [one, container, container, stranger] {
            accounts.charge(index, Direction::V6ToV4, PACKET);
        }
        let bytes = |accounted: Vec<status::Accounted>| -> Vec<(String, u64)> {
            accounted.into_iter().map(|it| (it.name, it.v6_to_v4.bytes)).collect()
        };
        assert_eq!(bytes(accounts.vms()), [("vm1".to_owned(), 100), ("vm2".to_owned(), 200)]);
        assert_eq!(bytes(accounts.top())[0], ("vm2".to_owned(), 200));
        assert_eq!(accounts.top().len(), 3);
        accounts.replace(&[vm("vm2", &["2001:db8:1::/64"])]);
        assert_eq!(accounts.open(address(1)), one);
        accounts.charge(one, Direction::V6ToV4, PACKET);
        assert_eq!(bytes(accounts.vms()), [("vm2".to_owned(), 300)], "what vm1 has had is not vm2's");
    }

    #[test]
    fn more_clients_than_there_is_room_for_are_charged_to_their_vm() {
        let mut accounts = accounts();
        let indices: Vec<_> = (0..MAX_CLIENTS as u32).map(|number| accounts.open(address(number))).collect();
        let late = accounts.open(address(1 << 20));
        accounts.charge(late, Direction::V4ToV6, PACKET);
        assert_eq!(accounts.vms()[0].v4_to_v6, PACKET);
        assert!(accounts.top().is_empty());
        accounts.release(late);
        // Again and again: the list of idle accounts does not grow.
        for _ in 0..10 {
            accounts.release(indices[7]);
            accounts.open(address(7));
        }
        assert_eq!(accounts.idle.len(), 1);
        assert_eq!(accounts.open(address(1 << 21)), late, "that account has a binding again");
        accounts.release(indices[9]);
        assert_eq!(accounts.open(address(1 << 21)), indices[9]);
        assert_eq!(accounts.clients.len(), MAX_CLIENTS);
    }
}
