"""The loops of a replica: each carries values between core and the ports at its own pace.

`observe` buses -> fold · `view` fold -> conclusions · `lead` the lease · `mirror` etcd -> this replica ·
`reconcile` view -> decision -> commit · `publish` commit -> buses · `stream` mirror -> HTTP readers ·
`collect` what etcd may forget. They share values, never tasks: a `Pulse` wakes, a frozen value is read.
"""
