//! Rules of the repository, as ordinary tests: shape of the tree, direction of dependencies, unsafe islands,
//! module headers, sizes. Nothing here is compiled into anything else.

#[cfg(test)]
mod tests;
