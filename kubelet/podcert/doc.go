// Package podcert gets pods their certificates, by PodCertificateRequests to signers (KEP-4317): it makes a key, which never leaves this
// node, asks for a certificate for it, and asks for another, with another key, when the signer says that it is time.
//
//	m := podcert.New(podcert.Config{API: api, Now: time.Now})
//	var state podcert.State
//	credential, err := m.Credential(ctx, pod, source, &state)   // asks, or goes on waiting, or renews
//	again := state.Next(now)                                   // when to call again at the latest
//
// The contract:
//
//   - A credential that is still good stays while the next one is waited for, whatever the signer says meanwhile.
//   - Who is told no does not ask at once again: the pause begins at five minutes and doubles up to an hour.
//   - One request is under way at a time. What is asked for is named after its key, so that a request whose answer was lost is found.
//   - Nothing here writes files. A kubelet that starts again finds its pods' credentials in their volumes: see [Recover].
package podcert
