//! Bad input, a hostile machine, a sudden end: each is refused or undone with its own message and code,
//! nothing is changed and nothing is left.

mod archives;
mod backups;
mod databases;
mod disks;
mod interrupted;
mod machine;
mod neighbour;
mod oddities;
