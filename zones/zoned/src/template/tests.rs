//! Templates on a disk, as they should be and as an attacker leaves them.

use std::fs;
use std::os::unix::fs::symlink;

use ::template::{Manifest, Recipe, Root, SigningKey, verity};

use super::*;
use crate::launch::tests::Data;

/// The key of this host's releases.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_seed([7; 8], [7; 32])
}

/// Writes a whole template "micro" and signs it.
pub(crate) fn install(data: &Path, epoch: u32, version: u64, signer: &SigningKey) {
    let folder = data.join("templates/micro");
    fs::create_dir_all(&folder).unwrap();
    let mut image = vec![5; 2 * verity::BLOCK];
    let tree = verity::tree(&image).unwrap();
    image.extend(&tree.bytes);
    let write = |name: &str, content: &[u8]| {
        fs::write(folder.join(name), content).unwrap();
        let mut summer = Summer::default();
        summer.add(content);
        summer.finish()
    };
    let FileSum { size, sha256 } = write(ROOT, &image);
    let root = Root { size, sha256, data_blocks: tree.data_blocks, verity: tree.root };
    let recipe = Recipe { name: "micro", epoch, version, memory_min_mib: 64, command_line: "console=hvc0" };
    let manifest = Manifest::new(&recipe, write(KERNEL, b"kernel"), write(INITRD, b"initrd"), root).unwrap();
    let text = manifest.encode();
    fs::write(folder.join(MANIFEST), &text).unwrap();
    fs::write(folder.join(APPROVAL), "approved").unwrap();
    fs::write(folder.join(SIGNATURE), signer.sign(text.as_bytes())).unwrap();
}

/// The templates of a host whose image demands epoch 2.
pub(crate) fn templates(data: &Path) -> Templates {
    let rules = data.join("rules.toml");
    fs::write(&rules, Rules::text(2, &key().public_key())).unwrap();
    Templates::new(data, &rules)
}

fn refusal(data: &Data, templates: &mut Templates) -> String {
    templates.open("micro").unwrap_err().to_string().replace(data.0.to_str().unwrap(), "/data")
}

#[test]
fn a_signed_template_opens_again_and_again() {
    let data = Data::new("template-good");
    let mut templates = templates(&data.0);
    for _ in 0..3 {
        let mut opened = templates.open("micro").unwrap();
        assert!(opened.manifest.command_line().starts_with("console=hvc0 bulkhead.root=2,"));
        // From its beginning, for whoever gets it.
        let mut text = String::new();
        File::from(opened.kernel).read_to_string(&mut text).unwrap();
        assert_eq!(text, "kernel");
        opened.kernel = opened.initrd.try_clone().unwrap();
    }
    assert_eq!(templates.hashed.len(), 2);
}

#[test]
fn an_unsigned_or_altered_template_is_refused() {
    let check = |name: &str, spoil: &dyn Fn(&Path), expected: &str| {
        let data = Data::new(name);
        let mut templates = templates(&data.0);
        // A template that was good before is looked at again.
        templates.open("micro").unwrap();
        spoil(&data.0.join("templates/micro"));
        assert_eq!(refusal(&data, &mut templates), expected);
    };
    let again = "run `./bulkhead run` to build it again";
    let manifest = "template \"micro\" is refused: /data/templates/micro/template.toml";
    let (ours, theirs) = ("0707070707070707", "0909090909090909");
    check(
        "template-unsigned",
        &|folder| fs::write(folder.join(SIGNATURE), "").unwrap(),
        &format!("{manifest}: signature: found no minisign signature, allowed is one by {ours}; {again}"),
    );
    check(
        "template-no-signature",
        &|folder| fs::remove_file(folder.join(SIGNATURE)).unwrap(),
        "template \"micro\" is not installed: /data/templates/micro/template.toml.minisig is missing; run `./bulkhead \
         run` to build it",
    );
    check(
        "template-other-key",
        &|folder| {
            let data = folder.parent().and_then(Path::parent).unwrap();
            install(data, 2, 5, &SigningKey::from_seed([9; 8], [9; 32]));
        },
        &format!("{manifest}: signature: found one by key {theirs}, allowed is one by {ours}; {again}"),
    );
    check(
        "template-altered-manifest",
        &|folder| {
            let text = fs::read_to_string(folder.join(MANIFEST)).unwrap();
            fs::write(folder.join(MANIFEST), text.replace("hvc0", "hvc0 init=/bin/sh")).unwrap();
        },
        &format!(
            "{manifest}: signature: found one by key {ours} that does not fit the manifest, allowed are the signed bytes \
             only; {again}"
        ),
    );
    check(
        "template-altered-kernel",
        &|folder| fs::write(folder.join(KERNEL), b"kernes").unwrap(),
        "template \"micro\" is refused: /data/templates/micro/vmlinux: found 6 bytes with SHA-256 \
         9932464fee394098a23669dab60d8f693b4943c688cd6a6bb6df0f63b16e1c14, allowed are 6 bytes with SHA-256 6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c; \
         run `./bulkhead run` to build it again",
    );
    check(
        "template-long-initrd",
        &|folder| fs::write(folder.join(INITRD), b"initrd and more").unwrap(),
        &format!(
            "template \"micro\" is refused: /data/templates/micro/initrd: found 15 bytes, allowed are 6 bytes; {again}"
        ),
    );
    check(
        "template-short-root",
        &|folder| fs::write(folder.join(ROOT), b"").unwrap(),
        &format!(
            "template \"micro\" is refused: /data/templates/micro/root.img: found 0 bytes, allowed are 12288 bytes; \
             {again}"
        ),
    );
}

#[test]
fn an_older_template_is_refused() {
    let data = Data::new("template-older");
    let mut earlier = templates(&data.0);
    for version in [5, 6, 6] {
        install(&data.0, 2, version, &key());
        earlier.open("micro").unwrap();
    }
    install(&data.0, 2, 5, &key());
    let expected = "template \"micro\" is refused: /data/templates/micro/template.toml: version: found 5, allowed is 6 \
                    or above, which this host has used already; install the newer template again";
    assert_eq!(refusal(&data, &mut earlier), expected);
    // A daemon that was started again remembers.
    let mut later = templates(&data.0);
    assert_eq!(refusal(&data, &mut later), expected);
    install(&data.0, 1, 9, &key());
    let expected = "template \"micro\" is refused: /data/templates/micro/template.toml: epoch: found 1, allowed is 2 or \
                    above; run `./bulkhead run` to build it again";
    assert_eq!(refusal(&data, &mut later), expected);
    // What was refused did not count as used.
    install(&data.0, 2, 6, &key());
    later.open("micro").unwrap();
}

#[test]
fn a_template_that_was_not_refused_for_its_version_is_no_use_of_it() {
    let data = Data::new("template-unused");
    let mut templates = templates(&data.0);
    install(&data.0, 2, 9, &key());
    fs::write(data.template(KERNEL), b"kernes").unwrap();
    templates.open("micro").unwrap_err();
    install(&data.0, 2, 5, &key());
    templates.open("micro").unwrap();
}

#[test]
fn what_is_no_file_is_refused() {
    let data = Data::new("template-link");
    let mut templates = templates(&data.0);
    let elsewhere = data.0.join("elsewhere");
    fs::rename(data.template(KERNEL), &elsewhere).unwrap();
    symlink(&elsewhere, data.template(KERNEL)).unwrap();
    let error = refusal(&data, &mut templates);
    assert!(error.starts_with("/data/templates/micro/vmlinux: "), "{error}");
    fs::remove_file(data.template(KERNEL)).unwrap();
    fs::create_dir(data.template(KERNEL)).unwrap();
    let error = refusal(&data, &mut templates);
    assert_eq!(error, "/data/templates/micro/vmlinux: no regular file; check the data disk");
}

#[test]
fn a_damaged_record_or_image_refuses_everything() {
    let data = Data::new("template-record");
    let mut good = templates(&data.0);
    fs::create_dir_all(data.0.join("zones")).unwrap();
    fs::write(data.0.join("zones").join(USED), "micro 5\nmicro many\n").unwrap();
    let expected = "no template can be checked: /data/zones/.templates-used: line 2: found \"micro many\", allowed is a \
                    name and a version";
    assert_eq!(refusal(&data, &mut good), expected);
    fs::remove_file(data.0.join("zones").join(USED)).unwrap();
    good.open("micro").unwrap();
    let mut none = Templates::new(&data.0, &data.0.join("nothing"));
    let expected = "no template can be checked: /data/nothing: No such file or directory (os error 2); build the image again";
    assert_eq!(refusal(&data, &mut none), expected);
}
