//! One bad file per rule, and exactly what is said about it.

/// File in `tests/bad/` without its ending, and each finding without the file's name.
#[rustfmt::skip]
pub(super) const BAD: &[(&str, &[&str])] = &[
    ("demo", &[
        "4: demo: found \"yes\", allowed true or false",
    ]),
    ("duplicate_key", &[
        "3: found wrong syntax: duplicate key, allowed TOML 1.0",
    ]),
    ("name", &[
        "3: name: found \"Exämple\", allowed 1 to 64 printable ASCII characters",
    ]),
    ("name_missing", &[
        "1: name: found nothing, allowed 1 to 64 printable ASCII characters",
    ]),
    ("no_zones", &[
        "1: zone: found 0 zones, allowed 1 to 8 zones, each with a colour of its own",
    ]),
    ("peer_endpoint", &[
        "27: tunnel.office.peer[0].endpoint: found \"office.gateway.example\", allowed \"host:port\", the host by DNS name, IPv4 address or [IPv6 address], the port from 1 to 65535",
    ]),
    ("peer_endpoint_address", &[
        "27: tunnel.office.peer[0].endpoint: found \"198.51.100.300:51820\", allowed \"host:port\", the host by DNS name, IPv4 address or [IPv6 address], the port from 1 to 65535",
    ]),
    ("peer_endpoint_missing", &[
        "25: tunnel.office.peer[0].endpoint: found nothing, allowed \"host:port\", the host by DNS name, IPv4 address or [IPv6 address], the port from 1 to 65535",
    ]),
    ("peer_endpoint_name", &[
        "27: tunnel.office.peer[0].endpoint: found \"office..example:51820\", allowed \"host:port\", the host by DNS name, IPv4 address or [IPv6 address], the port from 1 to 65535",
    ]),
    ("peer_endpoint_port", &[
        "27: tunnel.office.peer[0].endpoint: found \"office.gateway.example:0\", allowed \"host:port\", the host by DNS name, IPv4 address or [IPv6 address], the port from 1 to 65535",
    ]),
    ("peer_keepalive", &[
        "28: tunnel.office.peer[0].keepalive: found 0, allowed a whole number from 1 to 65535",
    ]),
    ("peer_key", &[
        "26: tunnel.office.peer[0].public_key: found \"0Cea+6eciiXuOuQC9WoaIWyNBkor9vcv0ZC9sm4N\", allowed an X25519 public key: 32 bytes in base64, 44 characters",
    ]),
    ("peer_key_missing", &[
        "25: tunnel.office.peer[0].public_key: found nothing, allowed an X25519 public key: 32 bytes in base64, 44 characters",
    ]),
    ("peer_key_twice", &[
        "31: tunnel.office.peer[1].public_key: found the key of line 26, allowed a key that no other peer of the tunnel has",
    ]),
    ("peer_key_zero", &[
        "26: tunnel.office.peer[0].public_key: found \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\", allowed an X25519 public key: 32 bytes in base64, 44 characters",
    ]),
    ("peer_missing", &[
        "21: tunnel.office.peer: found nothing, allowed a list of 1 to 8 peers: [[tunnel.NAME.peer]]",
    ]),
    ("peer_networks", &[
        "28: tunnel.office.peer[0].allowed_ips[0]: found \"everything\", allowed a network, such as \"10.11.0.0/24\" or \"::/0\"",
    ]),
    ("peer_networks_host_bits", &[
        "28: tunnel.office.peer[0].allowed_ips[0]: found \"10.11.0.1/24\", allowed a network, with no bits set behind its prefix: \"10.11.0.0/24\"",
    ]),
    ("peer_networks_missing", &[
        "25: tunnel.office.peer[0].allowed_ips: found nothing, allowed a list of 1 to 256 networks",
    ]),
    ("peer_networks_none", &[
        "28: tunnel.office.peer[0].allowed_ips: found a list of 0, allowed a list of 1 to 256 networks",
    ]),
    ("peer_networks_twice", &[
        "33: tunnel.office.peer[1].allowed_ips[0]: found \"0.0.0.0/0\", as in line 28, allowed each network once in a tunnel",
    ]),
    ("peers_many", &[
        "25: tunnel.office.peer: found a list of 9, allowed a list of 1 to 8 peers",
    ]),
    ("private_key", &[
        "25: tunnel.office.private_key: found a private key, allowed public keys only: private keys have no place in a policy (take it out, and make a new one: whoever saw this file may know it)",
    ]),
    ("private_key_hidden", &[
        "4: extra[0].PrivateKey: found a private key, allowed public keys only: private keys have no place in a policy (take it out, and make a new one: whoever saw this file may know it)",
        "4: extra: found an unknown key, allowed the keys schema, version, name, demo, screen, zone, tunnel",
    ]),
    ("schema", &[
        "1: schema: found 2, allowed 1",
    ]),
    ("schema_missing", &[
        "1: schema: found nothing, allowed 1",
    ]),
    ("screen", &[
        "6: screen.login: found \"face\", allowed one of touch, pin",
        "7: screen.suffle: found an unknown key, allowed the keys login, pin_tries, pin_shuffle",
    ]),
    ("screen_pin_touch", &[
        "6: screen.pin_tries: found 5, and no PIN is asked for, allowed this key only beside login = \"pin\"",
    ]),
    ("several", &[
        "2: version: found -1, allowed a whole number from 1 to 4294967295",
        "6: zone.office.colour: found \"gren\", allowed one of red, orange, yellow, green, blue, purple, brown, grey (did you mean \"green\"?)",
        "9: zone.office.vcpus: found 100, allowed a whole number from 1 to 8",
        "23: tunnel.office.dsn: found an unknown key, allowed the keys address, dns, mtu, peer (did you mean \"dns\"?)",
    ]),
    ("syntax", &[
        "3: found wrong syntax: invalid basic string, expected `\"`, allowed TOML 1.0",
    ]),
    ("too_many_zones", &[
        "4: zone: found 33 zones, allowed 1 to 8 zones, each with a colour of its own",
    ]),
    ("tunnel_address", &[
        "22: tunnel.office.address[0]: found \"10.11.0.2\", allowed an address with prefix length, such as \"10.11.0.2/32\"",
    ]),
    ("tunnel_address_family", &[
        "22: tunnel.office.address[1]: found \"10.11.0.3/32\", a second IPv4 address, allowed at most one IPv4 and one IPv6 address",
    ]),
    ("tunnel_address_missing", &[
        "21: tunnel.office.address: found nothing, allowed a list of 1 to 2 addresses with prefix length",
    ]),
    ("tunnel_address_none", &[
        "22: tunnel.office.address: found a list of 0, allowed a list of 1 to 2 addresses with prefix length",
    ]),
    ("tunnel_address_prefix", &[
        "22: tunnel.office.address[0]: found \"10.11.0.2/33\", allowed an address with prefix length, such as \"10.11.0.2/32\"",
    ]),
    ("tunnel_dns", &[
        "23: tunnel.office.dns[0]: found \"dns.example\", allowed the IP address of a host",
    ]),
    ("tunnel_dns_many", &[
        "23: tunnel.office.dns: found a list of 4, allowed a list of 0 to 3 DNS servers",
    ]),
    ("tunnel_mtu", &[
        "23: tunnel.office.mtu: found 1500, allowed a whole number from 1280 to 1420",
    ]),
    ("tunnel_name", &[
        "21: tunnel.\"of/fice\": found the name \"of/fice\", allowed 1 to 32 characters of a-z, 0-9 and -, the first of a-z",
    ]),
    ("unknown_peer_key", &[
        "28: tunnel.office.peer[0].allowedips: found an unknown key, allowed the keys public_key, endpoint, allowed_ips, keepalive (did you mean \"allowed_ips\"?)",
    ]),
    ("unknown_top_key", &[
        "4: zones: found an unknown key, allowed the keys schema, version, name, demo, screen, zone, tunnel (did you mean \"zone\"?)",
    ]),
    ("unknown_tunnel_key", &[
        "23: tunnel.office.adress: found an unknown key, allowed the keys address, dns, mtu, peer (did you mean \"address\"?)",
    ]),
    ("unknown_zone_key", &[
        "7: zone.office.memroy: found an unknown key, allowed the keys label, colour, template, memory, vcpus, disk, disposable, keep, user, login, pin_tries, pin_shuffle, network (did you mean \"memory\"?)",
    ]),
    ("version", &[
        "2: version: found 0, allowed a whole number from 1 to 4294967295",
    ]),
    ("version_missing", &[
        "1: version: found nothing, allowed a whole number from 1 to 4294967295",
    ]),
    ("zone_colour", &[
        "6: zone.office.colour: found \"gren\", allowed one of red, orange, yellow, green, blue, purple, brown, grey (did you mean \"green\"?)",
    ]),
    ("zone_colour_missing", &[
        "5: zone.office.colour: found nothing, allowed one of red, orange, yellow, green, blue, purple, brown, grey",
    ]),
    ("zone_colour_taken", &[
        "14: zone.vault.colour: found \"green\", as in line 6, allowed a colour that no other zone has",
    ]),
    ("zone_disk", &[
        "10: zone.office.disk: found \"2048 GiB\", allowed a size from \"16 MiB\" to \"1024 GiB\"",
    ]),
    ("zone_disk_missing", &[
        "5: zone.office.disk: found nothing, allowed a size from \"16 MiB\" to \"1024 GiB\"",
    ]),
    ("zone_disposable", &[
        "12: zone.office.disposable: found \"yes\", allowed true or false",
    ]),
    ("zone_keep", &[
        "12: zone.office.keep: found \"/var/lib/app\", allowed a list of 1 to 8 folders",
    ]),
    ("zone_keep_disposable", &[
        "13: zone.office.keep: found it with disposable = true, allowed no folders to keep in a disposable zone",
    ]),
    ("zone_keep_etc", &[
        "12: zone.office.keep[1]: found \"/etc/systemd/system\", allowed a folder of settings that do not decide what runs, and as whom",
        "12: zone.office.keep[2]: found \"/etc\", allowed a folder inside /etc, /var or /var/lib, not all of it",
    ]),
    ("zone_keep_long", &[
        "12: zone.office.keep[0]: found \"/srv/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
    ]),
    ("zone_keep_many", &[
        "12: zone.office.keep: found a list of 9, allowed a list of 1 to 8 folders",
    ]),
    ("zone_keep_nested", &[
        "15: zone.office.keep[2]: found \"/srv/a\" beside \"/srv/a/b\" of line 13, allowed no folder inside another one",
    ]),
    ("zone_keep_parts", &[
        "12: zone.office.keep[0]: found \"/srv/../etc\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
        "12: zone.office.keep[1]: found \"/srv//a\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
        "12: zone.office.keep[2]: found \"/srv/\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
        "12: zone.office.keep[3]: found \"/\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
        "12: zone.office.keep[4]: found \"/srv/./a\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
        "12: zone.office.keep[5]: found \"/srv/a b\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
        "12: zone.office.keep[6]: found \"/srv/a:b\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
        "12: zone.office.keep[7]: found 5, allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
    ]),
    ("zone_keep_relative", &[
        "12: zone.office.keep[0]: found \"var/lib/app\", allowed the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, without parts that are empty, \".\" or \"..\"",
    ]),
    ("zone_keep_tree", &[
        "12: zone.office.keep[0]: found \"/proc/sys\", allowed a folder outside of /bin, /boot, /dev, /home (always kept), /lib, /proc, /run, /sbin, /sys, /tmp, /usr, /var/lock and /var/run",
        "12: zone.office.keep[1]: found \"/usr/local/bin\", allowed a folder outside of /bin, /boot, /dev, /home (always kept), /lib, /proc, /run, /sbin, /sys, /tmp, /usr, /var/lock and /var/run",
        "12: zone.office.keep[2]: found \"/home\", allowed a folder outside of /bin, /boot, /dev, /home (always kept), /lib, /proc, /run, /sbin, /sys, /tmp, /usr, /var/lock and /var/run",
        "12: zone.office.keep[3]: found \"/var/run/app\", allowed a folder outside of /bin, /boot, /dev, /home (always kept), /lib, /proc, /run, /sbin, /sys, /tmp, /usr, /var/lock and /var/run",
        "12: zone.office.keep[4]: found \"/dev\", allowed a folder outside of /bin, /boot, /dev, /home (always kept), /lib, /proc, /run, /sbin, /sys, /tmp, /usr, /var/lock and /var/run",
    ]),
    ("zone_keep_twice", &[
        "12: zone.office.keep[2]: found \"/srv/a\", as in line 12, allowed each folder once",
    ]),
    ("zone_label", &[
        "6: zone.office.label: found \"An office with a label that is too long\", allowed 1 to 32 printable ASCII characters",
    ]),
    ("zone_login", &[
        "12: zone.office.login: found \"pim\", allowed one of touch, pin (did you mean \"pin\"?)",
        "21: zone.vault.login: found true, allowed one of touch, pin",
    ]),
    ("zone_login_disposable", &[
        "13: zone.office.login: found \"pin\", allowed \"touch\" in a disposable zone: its disk is empty at each start, a PIN would guard nothing",
    ]),
    ("zone_memory", &[
        "8: zone.office.memory: found \"32 MiB\", allowed a size from \"64 MiB\" to \"64 GiB\"",
    ]),
    ("zone_memory_missing", &[
        "5: zone.office.memory: found nothing, allowed a size from \"64 MiB\" to \"64 GiB\"",
    ]),
    ("zone_memory_number", &[
        "8: zone.office.memory: found 256, allowed a size from \"64 MiB\" to \"64 GiB\"",
    ]),
    ("zone_memory_unit", &[
        "8: zone.office.memory: found \"256MB\", allowed a size from \"64 MiB\" to \"64 GiB\"",
    ]),
    ("zone_name", &[
        "5: zone.Office: found the name \"Office\", allowed 1 to 32 characters of a-z, 0-9 and -, the first of a-z",
    ]),
    ("zone_network", &[
        "19: zone.vault.network: found \"lan\", allowed \"none\" or \"tunnel.NAME\"",
    ]),
    ("zone_network_missing", &[
        "13: zone.vault.network: found nothing, allowed \"none\" or \"tunnel.NAME\"",
    ]),
    ("zone_network_shared", &[
        "19: zone.vault.network: found \"tunnel.office\", as in line 11, allowed a tunnel that no other zone uses",
    ]),
    ("zone_network_unknown", &[
        "11: zone.office.network: found \"tunnel.ofice\", allowed a tunnel that this file has (did you mean \"tunnel.office\"?)",
    ]),
    ("zone_not_a_table", &[
        "22: zone.lab: found 5, allowed a table",
    ]),
    ("zone_pin_shuffle", &[
        "13: zone.office.pin_shuffle: found \"yes\", allowed true or false",
    ]),
    ("zone_pin_touch", &[
        "13: zone.office.pin_tries: found 5, and no PIN is asked for, allowed this key only beside login = \"pin\"",
        "22: zone.vault.pin_shuffle: found false, and no PIN is asked for, allowed this key only beside login = \"pin\"",
    ]),
    ("zone_pin_tries", &[
        "13: zone.office.pin_tries: found 2, allowed a whole number from 3 to 16",
        "23: zone.vault.pin_tries: found 17, allowed a whole number from 3 to 16",
    ]),
    ("zone_pin_tries_text", &[
        "13: zone.office.pin_tries: found \"5\", allowed a whole number from 3 to 16, without quotes",
    ]),
    ("zone_template", &[
        "7: zone.office.template: found \"../micro\", allowed 1 to 32 characters of a-z, 0-9 and -, the first of a-z",
    ]),
    ("zone_template_missing", &[
        "5: zone.office.template: found nothing, allowed 1 to 32 characters of a-z, 0-9 and -, the first of a-z",
    ]),
    ("zone_user", &[
        "11: zone.office.user: found \"anna:x\", allowed 1 to 31 characters of a-z, 0-9 and -, the first of a-z",
        "20: zone.vault.user: found \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", allowed 1 to 31 characters of a-z, 0-9 and -, the first of a-z",
    ]),
    ("zone_user_taken", &[
        "11: zone.office.user: found \"root\", allowed a name that Debian gives to no user or group of its own",
        "20: zone.vault.user: found \"systemd-coredump\", allowed a name that Debian gives to no user or group of its own",
    ]),
    ("zone_vcpus", &[
        "9: zone.office.vcpus: found 9, allowed a whole number from 1 to 8",
    ]),
    ("zone_vcpus_missing", &[
        "5: zone.office.vcpus: found nothing, allowed a whole number from 1 to 8",
    ]),
    ("zone_vcpus_text", &[
        "9: zone.office.vcpus: found \"1\", allowed a whole number from 1 to 8, without quotes",
    ]),
];
