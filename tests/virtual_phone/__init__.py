"""A phone without a phone: real adbd, a real Android-like shell, and everything that a tool asks of it made up.

``phone.open_phone`` starts one in private namespaces, for arm64-v8a (emulated) or x86_64 (native); ``adbd.open_adbd``
is a device in Python for faults that the real adbd cannot give; ``adb_server.open_adb_server`` keeps both apart from
the person's own ADB. ``make phone`` starts one by hand. What it measures is never a phone's: it says ro.boot.qemu=1.
"""
