# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the rules that a cluster must meet. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  claim:
    description:
      - Whether to claim the cluster for this run before the first reading, as M(keyops.utrust.utrust_cluster_claim) does.
      - The action releases the claim if it finds a problem. Otherwise the claim stays until a later task releases it.
      - In check mode, the action only reads, and a claim of another run is a problem.
    type: bool
    default: false
  claim_wait:
    description: Seconds to wait while another run has claimed the cluster.
    type: float
    default: 150.0
  max_clock_skew:
    description: Seconds by which the clock of a node may differ from the clock of this machine.
    type: float
    default: 60.0
  min_certificate_days:
    description: Days for which the TLS certificate of a node must still be valid. Checked only if the node reports the end.
    type: float
    default: 14.0
  max_backup_hours:
    description: Hours that the last backup of a node may be old. Not checked if not set.
    type: float
  manual_confirmations:
    description: Manual confirmations of facts that a node does not report.
    type: list
    elements: dict
    default: []
    suboptions:
      subject:
        description: Fact that is confirmed.
        type: str
        choices: [backup]
        required: true
      node:
        description: Name of the node.
        type: str
        required: true
      confirmed_by:
        description: Name of the person who confirms the fact.
        type: str
        required: true
      reason:
        description: Reason why the person knows the fact.
        type: str
        required: true
  ignore_members:
    description: Names of joined members that are excluded on purpose. Every other joined member must be a host of the play.
    type: list
    elements: str
    default: []
  allow_outage:
    description: Whether one target at a time may restart although the cluster loses its quorum, as in a cluster of two nodes.
    type: bool
    default: false
"""
