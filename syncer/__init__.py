"""
The record: everything that must be right.

`syncer` owns the contract (`api`), the rules that turn a log into a status (`status`), and the only
doors to Redis (`ledger`) and to Kubernetes (`cluster`). It knows nothing of channels or routing and
never imports `notifier`.
"""
