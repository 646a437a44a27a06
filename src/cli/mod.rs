//! The command line: arguments to configuration, one library call, print. Only here is anything printed or exited.
