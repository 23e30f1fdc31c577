//! Listeners over TLS and unix sockets.

mod clients;
mod site;
mod streams;
