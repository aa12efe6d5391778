# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every limit of what a server may send, and of how long the collection waits. Private to keyops.utrust.

The comment of a limit gives its unit and its reason. docs/limits.md lists all limits, and a test compares the page with this file.
A server that exceeds a limit gets a coded error.
"""

from __future__ import annotations

import typing as t

# Times

#: Seconds. A longer time-out of an option is a typing error.
MAX_TIMEOUT: t.Final = 86_400.0
#: Bytes a second. A package that is transferred more slowly counts as stopped, so the deadline of a transfer grows with its size.
MIN_TRANSFER_RATE: t.Final = 64 * 1024
#: Repetitions. More repetitions would only overload a busy node.
MAX_RETRIES: t.Final = 20
#: Seconds between two repetitions, and the maximum of Retry-After. A server must not stop a run.
MAX_RETRY_DELAY: t.Final = 60.0
#: Seconds to read all pages of keys once. A node that sends pages for ever must not hold a run.
MAX_LIST_TIME: t.Final = 600.0
#: Readings of all pages. Keys that change during each reading are not stable.
MAX_LIST_READS: t.Final = 5
#: Seconds to wait until a node has prepared a package. Some appliances need minutes.
MAX_PACKAGE_TIME: t.Final = 1_800.0
#: Seconds after which a request is not repeated any more. A busy node must not hold a run for every repetition.
MAX_RETRY_TIME: t.Final = 300.0
#: Seconds to look for the object of a request whose response was lost. A longer search would only hide the failure.
MAX_LOOKUP_TIME: t.Final = 60.0
#: Seconds to look for the object before the module reports that the node did not act. The contract gives a node this time to list it.
MIN_LOOKUP_TIME: t.Final = 30.0
#: Seconds until a claim without requests ends. The contract allows no more, and a killed run must not block the cluster for longer.
MAX_CLAIM_TTL: t.Final = 120
#: Seconds. The contract allows no less.
MIN_CLAIM_TTL: t.Final = 10
#: Seconds that one step of people may take if option `people_timeout` is not set. People with cards need some time, and a run that nobody attends must end.
MAX_PEOPLE_TIME: t.Final = 3_600.0
#: Seconds until an EJBCA view must show new keys, unless an option sets another time. A crypto token can cache its keys for 120 seconds.
MAX_VIEW_TIME: t.Final = 150.0
#: Seconds between two readings of an EJBCA view. Each page is a record in the audit log of EJBCA.
MIN_VIEW_INTERVAL: t.Final = 10.0
#: Seconds between two long polls without a change. A node that responds at once must not get thousands of requests.
MIN_POLL_INTERVAL: t.Final = 1.0
#: Prompts for one value at a terminal. More invalid values have another cause than a typing error.
MAX_PROMPTS: t.Final = 3
#: Seconds of one long poll. The contract allows at most 60.
MAX_LONG_POLL: t.Final = 20.0

# Responses

#: Bytes of the status line and all headers, with interim responses. Real headers need less than 4 KiB.
MAX_HEADER_BYTES: t.Final = 64 * 1024
#: Bytes of a file with a bearer token. A longer token does not fit into a header of a common server.
MAX_TOKEN_BYTES: t.Final = 8 * 1024
#: Bytes of a JSON response. A page of 1,000 keys needs about 1 MiB.
MAX_JSON_BYTES: t.Final = 64 * 1024 * 1024
#: Bytes of a response that rejects a request. A problem document needs less than 4 KiB.
MAX_PROBLEM_BYTES: t.Final = 256 * 1024
#: Bytes of a chunk size line with its extensions. Longer lines occur only in attacks.
MAX_CHUNK_LINE: t.Final = 256
#: Bytes of trailers after a chunked body. The collection ignores trailers.
MAX_TRAILER_BYTES: t.Final = 8 * 1024
#: Nested arrays and objects of JSON. The contract needs 6.
MAX_JSON_DEPTH: t.Final = 16
#: Commas in a JSON response. 40,000 rows of an import have about 500,000, and 64 MiB of tiny values would need 2 GiB of memory.
MAX_JSON_COMMAS: t.Final = 2_000_000
#: Digits of a JSON number. More digits are not exact, and converting them is slow.
MAX_NUMBER_DIGITS: t.Final = 32
#: Bytes of a package. 20,000 wrapped keys need less.
MAX_PACKAGE_BYTES: t.Final = 64 * 1024 * 1024

# Content of responses

#: Keys of one node, and keys of one package. HSMs of one cluster hold some thousands.
MAX_KEYS: t.Final = 20_000
#: Keys on one page. The contract allows no more.
MAX_PAGE_KEYS: t.Final = 1_000
#: Pages of one list of keys. A page may have fewer keys than requested.
MAX_PAGES: t.Final = 1_000
#: Rows of one import. An import can add all keys of a package and remove all keys of the HSM.
MAX_ROWS: t.Final = 40_000
#: Members of a cluster. Clusters have some ten nodes, and the bench reads 100.
MAX_MEMBERS: t.Final = 256
#: Slots of an HSM. Real HSMs have some ten.
MAX_SLOTS: t.Final = 1_024
#: PIN pads of a node. Real nodes have a few.
MAX_PIN_PADS: t.Final = 64
#: Names of capabilities of a node. The contract has a few.
MAX_CAPABILITIES: t.Final = 64
#: Packages, imports or restores in one list. Older objects are found by their key.
MAX_OBJECTS: t.Final = 100
#: Characters of a short text, such as a prompt or a version. A prompt fits on a PIN pad.
MAX_TEXT: t.Final = 200
#: Characters of a long text, such as the reason of a failure. Longer texts hide the rest of a message.
MAX_LONG_TEXT: t.Final = 1_000
#: Characters of the name of a node or a PIN pad, of a serial number, and of a cluster id. Longer names break tables.
MAX_NAME: t.Final = 64
#: Characters of an address. DNS allows no more.
MAX_ADDRESS: t.Final = 255
#: Characters of the label of a key. PKCS #11 libraries allow fewer.
MAX_LABEL: t.Final = 128
#: Combining marks after one character of a shown text. No script needs more, and more cover the lines around the text.
MAX_COMBINING_MARKS: t.Final = 3
#: Characters of the name of an MBK. The vendor allows no more.
MAX_MBK_NAME: t.Final = 8
#: Bits of a key. RSA keys have at most 16,384.
MAX_KEY_SIZE: t.Final = 65_536
#: The greatest whole number. Greater numbers are not exact in JSON.
MAX_NUMBER: t.Final = 2**53 - 1
#: Changes of one job. People cause some ten.
MAX_CHANGES: t.Final = 10_000
#: Seconds that a PIN pad waits. Real PIN pads wait some minutes.
MAX_SECONDS_LEFT: t.Final = 3_600
#: Events of one guided restore in a result. A result with more would fill the log.
MAX_EVENTS: t.Final = 500
#: CAs of EJBCA on one node. The collection reads a certificate for each of them.
MAX_AUTHORITIES: t.Final = 1_000
#: Bytes of a page of EJBCA's Admin Web. A crypto token with 2,000 keys needs about 3 MiB.
MAX_PAGE_BYTES: t.Final = 8 * 1024 * 1024
#: Nested elements of a page of EJBCA's Admin Web. Real pages have some thirty.
MAX_PAGE_DEPTH: t.Final = 200
#: Crypto tokens of EJBCA on one node. Every crypto token needs two pages.
MAX_CRYPTO_TOKENS: t.Final = 256
#: Key pairs of all crypto tokens of EJBCA on one node. The collection downloads the public key of each of them.
MAX_VIEW_KEYS: t.Final = 2_000
#: Bytes of a public key that EJBCA sends as a PEM file. Keys of post-quantum algorithms need some KiB.
MAX_PUBLIC_KEY_BYTES: t.Final = 64 * 1024
#: Bytes of the session cookie of EJBCA's Admin Web. Real cookies have less than 100.
MAX_COOKIE_BYTES: t.Final = 512
#: Downloads of public keys that fail before the others of the same node are skipped. Each failure writes an error to the log of EJBCA.
MAX_FAILED_DOWNLOADS: t.Final = 5
#: Keys of one task whose signature is tested. Each test is a signature of the HSM.
MAX_TESTED_KEYS: t.Final = 20
#: Bytes of a commissioning record. A record of 100 nodes needs about 200 KiB.
MAX_COMMISSIONING_BYTES: t.Final = 4 * 1024 * 1024
#: Bytes of a file with a certificate or a public key. A certificate with its chain and key needs less than 20 KiB.
MAX_PEM_BYTES: t.Final = 256 * 1024
