package natstest

import (
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
)

// NewUser returns an nkey and its seed.
func NewUser(t *testing.T) (nkeys.KeyPair, []byte) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	require.NoError(t, err)
	seed, err := pair.Seed()
	require.NoError(t, err)
	return pair, seed
}

// OperatorMode creates an operator, an account with JetStream and a user, as nsc does. It returns
// the options of the server and the credentials file of the user.
func OperatorMode(t *testing.T) (configure func(*natsd.Options), creds string) {
	t.Helper()
	operator, err := nkeys.CreateOperator()
	require.NoError(t, err)
	operatorKey, err := operator.PublicKey()
	require.NoError(t, err)
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	accountKey, err := account.PublicKey()
	require.NoError(t, err)
	systemAccount, err := nkeys.CreateAccount()
	require.NoError(t, err)
	systemKey, err := systemAccount.PublicKey()
	require.NoError(t, err)
	user, seed := NewUser(t)
	userKey, err := user.PublicKey()
	require.NoError(t, err)

	operatorClaims := jwt.NewOperatorClaims(operatorKey)
	operatorClaims.SystemAccount = systemKey
	accountClaims := jwt.NewAccountClaims(accountKey)
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := accountClaims.Encode(operator)
	require.NoError(t, err)
	systemJWT, err := jwt.NewAccountClaims(systemKey).Encode(operator)
	require.NoError(t, err)
	userJWT, err := jwt.NewUserClaims(userKey).Encode(account)
	require.NoError(t, err)
	content, err := jwt.FormatUserConfig(userJWT, seed)
	require.NoError(t, err)

	resolver := &natsd.MemAccResolver{}
	require.NoError(t, resolver.Store(accountKey, accountJWT))
	require.NoError(t, resolver.Store(systemKey, systemJWT))
	return func(o *natsd.Options) {
		o.TrustedOperators = []*jwt.OperatorClaims{operatorClaims}
		o.AccountResolver = resolver
		o.SystemAccount = systemKey
	}, WriteFile(t, filepath.Join(t.TempDir(), "bridge.creds"), content)
}
