"""XMP: what is in a packet stays, what is not true goes, and bombs are as good as none."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import pytest
from photo_files import XMP

from facegen.photos import xmp
from facegen.photos.xmp import edit_packet

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
EMPTY = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%s</rdf:RDF></x:xmpmeta>'


def properties(packet: bytes) -> dict[str, str]:
    """All attributes of descriptions, and texts of elements."""
    root = ElementTree.fromstring(packet.decode())
    found = {key: value for element in root.iter(f"{RDF}Description") for key, value in element.attrib.items()}
    return found | {element.tag: element.text for element in root.iter() if (element.text or "").strip()}


def test_a_new_packet_says_what_it_is_given():
    found = properties(edit_packet(b"", {"DigitalSourceType": 'a <b> & "c"'}))
    assert found[f"{IPTC}DigitalSourceType"] == 'a <b> & "c"'
    assert edit_packet(b"") == b""


def test_a_packet_keeps_what_is_in_it():
    packet = edit_packet(XMP, {"DigitalSourceType": "new"})
    found = properties(packet)
    assert found[f"{RDF}li"] == "Zoë & co"
    assert found["{http://ns.adobe.com/tiff/1.0/}Make"] == "Camera"
    assert found[f"{RDF}about"] == "uuid:1"
    assert found[f"{IPTC}DigitalSourceType"] == "new"
    assert b"digitalCapture" not in packet
    assert b"Orientation" not in packet
    assert b"old face" not in packet
    assert packet.startswith(b"<?xpacket begin=")
    assert packet.endswith(b'<?xpacket end="w"?>')
    again = properties(edit_packet(packet, {"DigitalSourceType": "newer"}))
    assert again == found | {f"{IPTC}DigitalSourceType": "newer"}


def test_without_properties_only_what_is_not_true_goes():
    found = properties(edit_packet(XMP))
    assert found[f"{IPTC}DigitalSourceType"].endswith("digitalCapture")
    assert "{http://ns.adobe.com/tiff/1.0/}Orientation" not in found


def test_what_further_pictures_are_named_goes():
    inner = b'<rdf:Description rdf:about="" xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" h:Version="1.0" h:x="y"/>'
    assert b"1.0/" in EMPTY % inner
    assert "y" not in properties(edit_packet(EMPTY % inner)).values()


BOMB = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">%s]>' % b"".join(
    b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 10)
)


@pytest.mark.parametrize(
    "packet",
    [
        b"hello",
        b"<a/>",
        b"\xff\xfe<\0a\0/\0>\0",
        b"\0" * 100,
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        BOMB + EMPTY % b"<a>&a9;</a>",
        b'<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + EMPTY % b"<a>&a;</a>",
        EMPTY % (b"<a>" * 100_000 + b"</a>" * 100_000),
        EMPTY % (b"<a>" * 9000 + b"</a>" * 9000),
        EMPTY % (b"<a/>" * 200_000),
        EMPTY % b" " * (xmp.MAX_BYTES + 1),
        EMPTY[:-10],
    ],
    ids=["text", "other", "utf16", "zeros", "encoding", "bomb", "file", "deep", "less-deep", "wide", "long", "cut"],
)
def test_a_hostile_or_broken_packet_is_replaced(packet: bytes):
    start = time.perf_counter()
    found = properties(edit_packet(packet, {"DigitalSourceType": "new"}))
    assert found[f"{IPTC}DigitalSourceType"] == "new"
    assert time.perf_counter() - start < 5
    assert edit_packet(packet) in (b"",) or b"<a>" in packet
