use super::*;

fn host() -> HostDevices {
    HostDevices {
        accelerator: Accelerator::Emulated,
        memory_mib: 3072,
        processors: 2,
        kernel: "/k".into(),
        initramfs: "/i".into(),
        stub: Some("/stub".into()),
        kernel_arguments: "console=ttyS0 quiet".to_owned(),
        data_disk: Some("/with,comma".into()),
        screen: Screen::None,
        size: (1280, 800),
        pointer: Pointer::Touch,
        network: Some("/net".into()),
        qmp: "/qmp".into(),
        bridge: Some("/bridge".into()),
        tpm: Some("/tpm".into()),
        more: Vec::new(),
    }
}

fn words(host: &HostDevices) -> String {
    arguments(host).into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_device_of_a_test_host_is_there_once() {
    let words = words(&host());
    for part in [
        "-cpu EPYC,+svm",
        "-m 3072",
        "-append console=ttyS0 quiet",
        "file=/with,,comma",
        "addr.path=/net",
        "mac=52:54:00:77:00:14",
        "virtio-vga,xres=1280,yres=800",
        "virtio-multitouch-pci",
        "path=/bridge",
        "path=/tpm",
        "tpm-crb",
        "-kernel /stub -device loader,file=/k -device loader,file=/i,addr=0x10000000,force-raw=on",
        "name=org.bulkhead.test",
        "-display none",
    ] {
        assert_eq!(words.matches(part).count(), 1, "{part:?} in {words:?}");
    }
    assert!(!words.contains("tablet"), "it would steal the touches");
}

#[test]
fn what_is_not_asked_for_is_not_there() {
    let host = HostDevices {
        data_disk: None,
        network: None,
        bridge: None,
        tpm: None,
        stub: None,
        pointer: Pointer::Tablet,
        screen: Screen::Vnc(7),
        ..host()
    };
    let words = words(&host);
    for part in ["virtio-blk", "-netdev", "virtio-net", "virtserialport", "multitouch", "tpm"] {
        assert!(!words.contains(part), "{part:?} in {words:?}");
    }
    assert!(words.contains("-display vnc=127.0.0.1:7"), "never on another address");
}
