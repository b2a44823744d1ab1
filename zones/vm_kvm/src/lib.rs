//! vm_kvm
