//! What every test needs: a root with a real instance, the binary in a clean environment, a picture of a
//! whole tree, archives with one intended defect.

pub(crate) mod actual;
pub(crate) mod archive;
pub(crate) mod forge;
pub(crate) mod journal;
pub(crate) mod ran;
pub(crate) mod root;
pub(crate) mod service;
pub(crate) mod strace;
pub(crate) mod sums;
pub(crate) mod tools;
pub(crate) mod tree;
pub(crate) mod world;

pub(crate) use ran::Ran;
pub(crate) use root::TestRoot;
