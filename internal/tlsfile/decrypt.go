package tlsfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// maxIterations bounds the time of the key derivation. OpenSSL's default is 2,048; some users choose a
// million.
const maxIterations = 10_000_000

func isEncrypted(b *pem.Block) bool {
	//lint:ignore SA1019 keys in the old format are in use and only read here
	return b.Type == "ENCRYPTED PRIVATE KEY" || x509.IsEncryptedPEMBlock(b)
}

// decrypt returns the decrypted block. It supports PKCS #8, the format of OpenSSL 3, and the older
// format with the cipher in the PEM header.
func decrypt(b *pem.Block, passphrase []byte) (*pem.Block, error) {
	if b.Type != "ENCRYPTED PRIVATE KEY" {
		//lint:ignore SA1019 as above
		der, err := x509.DecryptPEMBlock(b, passphrase)
		if errors.Is(err, x509.IncorrectPasswordError) {
			return nil, ErrPassphrase
		}
		return &pem.Block{Type: b.Type, Bytes: der}, err
	}
	der, err := decryptPKCS8(b.Bytes, passphrase)
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, err
}

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5958).
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// pbes2 is PBES2-params (RFC 8018, appendix A.4).
type pbes2 struct {
	Derivation pkix.AlgorithmIdentifier
	Cipher     pkix.AlgorithmIdentifier
}

// derivation is PBKDF2-params. Only a salt that is contained in them is supported.
type derivation struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

func decryptPKCS8(der, passphrase []byte) ([]byte, error) {
	var key encryptedKey
	if rest, err := asn1.Unmarshal(der, &key); err != nil || len(rest) > 0 {
		return nil, errors.New("the encrypted key cannot be read")
	}
	if id := key.Algorithm.Algorithm.String(); id != "1.2.840.113549.1.5.13" {
		return nil, fmt.Errorf("the key's encryption %s is not supported: convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`", id)
	}
	var scheme pbes2
	if _, err := asn1.Unmarshal(key.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, errors.New("the encrypted key's parameters cannot be read")
	}
	block, iv, err := scheme.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	if len(key.Data) == 0 || len(key.Data)%block.BlockSize() != 0 || len(iv) != block.BlockSize() {
		return nil, errors.New("the encrypted key cannot be read")
	}
	plain := make([]byte, len(key.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, key.Data)
	// A wrong passphrase results in invalid padding, or otherwise in data that is not a key.
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > block.BlockSize() || pad > len(plain) {
		return nil, ErrPassphrase
	}
	plain = plain[:len(plain)-pad]
	if _, err := x509.ParsePKCS8PrivateKey(plain); err != nil {
		return nil, ErrPassphrase
	}
	return plain, nil
}

// cipher derives the key of the block cipher.
func (p pbes2) cipher(passphrase []byte) (cipher.Block, []byte, error) {
	var iv []byte
	if _, err := asn1.Unmarshal(p.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, nil, errors.New("the encrypted key's parameters cannot be read")
	}
	length, open := 0, aes.NewCipher
	switch id := p.Cipher.Algorithm.String(); id {
	case "2.16.840.1.101.3.4.1.2":
		length = 16
	case "2.16.840.1.101.3.4.1.22":
		length = 24
	case "2.16.840.1.101.3.4.1.42":
		length = 32
	case "1.2.840.113549.3.7":
		length, open = 24, des.NewTripleDESCipher
	default:
		return nil, nil, fmt.Errorf("the key's cipher %s is not supported: convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`", id)
	}
	key, err := p.derive(passphrase, length)
	if err != nil {
		return nil, nil, err
	}
	block, err := open(key)
	return block, iv, err
}

func (p pbes2) derive(passphrase []byte, length int) ([]byte, error) {
	if id := p.Derivation.Algorithm.String(); id != "1.2.840.113549.1.5.12" {
		return nil, fmt.Errorf("the key's derivation %s is not supported: convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`", id)
	}
	var d derivation
	if _, err := asn1.Unmarshal(p.Derivation.Parameters.FullBytes, &d); err != nil || d.Iterations < 1 || d.Iterations > maxIterations {
		return nil, errors.New("the encrypted key's parameters cannot be read")
	}
	var sum func() hash.Hash
	switch id := d.PRF.Algorithm.String(); id {
	case "", "1.2.840.113549.2.7": // the default is HMAC with SHA-1
		sum = sha1.New
	case "1.2.840.113549.2.9":
		sum = sha256.New
	case "1.2.840.113549.2.10":
		sum = sha512.New384
	case "1.2.840.113549.2.11":
		sum = sha512.New
	default:
		return nil, fmt.Errorf("the key's derivation with %s is not supported: convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`", id)
	}
	return pbkdf2.Key(sum, string(passphrase), d.Salt, d.Iterations, length)
}
