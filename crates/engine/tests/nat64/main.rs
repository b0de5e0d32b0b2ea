//! NAT64 as its neighbours see it: packets in, packets and a verdict out.
mod behaviour;
mod fragments;
mod icmp;
mod limits;
mod model;
mod packet;
mod prefixes;
mod properties;
mod publish;
mod restart;
mod router;
mod siit;
mod stateless;
mod tcp;
mod translation;
mod unfinished;
mod vectors;
