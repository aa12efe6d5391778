# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts of the pages in three languages. German headers contain a line break."""

from __future__ import annotations

_EN = {
    "home": "Home", "ca_functions": "CA Functions", "ca_activation": "CA Activation", "crypto_tokens": "Crypto Tokens",
    "audit_log": "Audit Log", "preferences": "My Preferences", "version": "Version :", "welcome": "Welcome",
    "to_ejbca": "to EJBCA Administration.", "node": "Node hostname :", "time": "Server time :",
    "manage": "Manage Crypto Tokens", "token": "Crypto Token", "new_token": "New Crypto Token", "name": "Name",
    "type": "Type", "library": "Library", "reference_type": "Reference Type", "reference": "Reference",
    "active": "Active", "auto": "Auto-activation", "used": "Used", "yes": "Yes", "no": "No", "actions": "Actions",
    "id": "ID", "view_with": "View Crypto Token with ID", "label_type": "Slot ID", "activate": "Activate",
    "deactivate": "Deactivate", "reactivate": "Reactivate", "delete": "Delete", "create": "Create new...",
    "code": "Authentication Code", "back": "Back to Crypto Token overview", "edit": "Switch to edit mode",
    "cancel": "Cancel", "save": "Save", "explicit": "Use explicit ECC parameters (ICAO CSCA and DS certificates)",
    "not_active": "Key pair management is only available for active Crypto Tokens.",
    "no_pairs": "Crypto Token currently does not contain any key pairs.", "alias": "Alias",
    "algorithm": "Key Algorithm", "specification": "Key Specification", "padding": "Padding Scheme",
    "action": "Action", "test": "Test", "remove": "Remove", "remove_selected": "Remove selected",
    "download": "Download Public Key", "generate": "Generate", "generate_new": "Generate new key pair",
    "not_generated": "(Not generated)", "initialize": "Initialize", "authorize": "Authorize",
    "denied": "Authorization Denied", "cause": "Cause", "exception": "An exception has occurred.",
    "timed_out": "Session has timed out. ", "login": "Welcome to EJBCA Administration",
    "login_cert": "No client certificate was presented",
    "login_text": "If you were not prompted to select a client certificate, please check that you have the right certificate.",
}  # fmt: skip
_DE = {
    "home": "Hauptseite", "ca_functions": "CA-Funktionen", "ca_activation": "CA-Aktivierung",
    "crypto_tokens": "Krypto-Tokens", "audit_log": "Log anzeigen", "preferences": "Meine Einstellungen",
    "welcome": "Willkommen", "to_ejbca": "zur EJBCA-Administration.", "node": "Hostname des Knotens :",
    "time": "Serverzeit :", "manage": "Krypto-Tokens verwalten", "token": "Krypto-Token",
    "new_token": "Neues Krypto-Token", "type": "Typ", "reference_type": "Referenz Typ", "reference": "Referenz",
    "active": "Aktiv", "auto": "Auto-Aktivierung", "used": "Verwendet", "yes": "Ja", "no": "Nein",
    "actions": "Aktionen", "view_with": "Krypto-Token mit ID anzeigen", "activate": "Aktivieren",
    "deactivate": "Deaktivieren", "reactivate": "Reaktivieren", "delete": "Löschen",
    "create": "Krypto-Token erstellen...", "code": "Authentifizierungscode", "back": "Zurück zur Übersicht",
    "edit": "In den Bearbeitungsmodus wechseln", "cancel": "Abbrechen", "save": "Speichern",
    "explicit": "Explizite ECC Parameter verwenden", "padding": "Padding Schema",
    "not_active": "Schlüsselverwaltung ist nur für aktive Krypto-Tokens verfügbar.",
    "no_pairs": "Dieses Krypto-Token beinhaltet keine Schlüsselpaare.", "algorithm": "Schlüssel\nAlgorithmus",
    "specification": "Schlüssel\nSpezifikation", "action": "Aktion", "remove": "Löschen",
    "remove_selected": "Auswahl Löschen", "download": "Öffentlichen Schlüssel runterladen",
    "generate": "Generieren", "generate_new": "Neues Schlüsselpaar generieren",
    "not_generated": "(Nicht generiert)", "initialize": "Initialisieren", "authorize": "Autorisieren",
    "denied": "Zugriff verweigert", "cause": "Grund", "exception": "Es ist eine 'Exception' aufgetreten.",
    "login": "Willkommen bei EJBCA Administration", "login_cert": "Es wurde kein Client-Zertifikat verwendet",
}  # fmt: skip
_FR = {
    "home": "Accueil", "ca_functions": "Fonctions d'AC", "crypto_tokens": "Jetons cryptographiques",
    "audit_log": "Journal d'audit", "preferences": "Mes préférences", "version": "Version :", "welcome": "Bienvenue",
    "to_ejbca": "à l'administration EJBCA.", "node": "Nom d'hôte du nœud :", "time": "Heure du serveur :",
    "manage": "Gérer les jetons cryptographiques", "token": "Jeton cryptographique", "name": "Nom",
    "library": "Bibliothèque", "reference_type": "Type de référence", "reference": "Référence", "active": "Actif",
    "auto": "Activation automatique", "used": "Utilisé", "yes": "Oui", "no": "Non",
    "view_with": "Voir le jeton cryptographique d'identifiant", "activate": "Activer", "deactivate": "Désactiver",
    "reactivate": "Réactiver", "delete": "Supprimer", "back": "Retour à la liste des jetons",
    "not_active": "La gestion des bi-clés n'est disponible que pour les jetons actifs.",
    "no_pairs": "Le jeton ne contient aucune bi-clé.", "algorithm": "Algorithme de clé",
    "specification": "Spécification de clé", "test": "Tester", "remove": "Supprimer",
    "download": "Télécharger la clé publique", "not_generated": "(Non générée)", "denied": "Autorisation refusée",
}  # fmt: skip
#: A text that a language does not have is in English, as in EJBCA.
STRINGS = {"en": _EN, "de": _EN | _DE, "fr": _EN | _FR}
